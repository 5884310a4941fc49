"""How the sidecar speaks HTTP."""

import asyncio
from dataclasses import dataclass, field
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .identity import Peer, peer_of

LONGEST_TARGET = 16_384
"""Bytes of a request's target that are looked at; the parser of URLs fails on more than 65,535."""


def _pending() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()


@dataclass(frozen=True)
class Link:
    """The connection that a call came on: `scope["state"]["link"]`."""

    peer: Peer
    closed: asyncio.Future[None] = field(default_factory=_pending)


class NeverRefusing(HttpToolsProtocol):
    """Hangs up where others answer 400, and cuts a target that is too long.

    By ext_authz over HTTP Envoy repeats here what a stranger sent: method and path. It would take a 4xx for the verdict
    that the stranger be refused, but lets the request go on when the call breaks.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self._link = Link(peer_of(transport.get_extra_info("socket")))
        self.app_state = {**self.app_state, "link": self._link}

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._link.closed.set_result(None)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self.url = self.url[:LONGEST_TARGET]

    def send_400_response(self, msg: str) -> None:
        self.logger.warning(msg)
        self.transport.close()

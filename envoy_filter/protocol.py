"""How the sidecar speaks HTTP."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LONGEST_TARGET = 16_384
"""Bytes of a request's target that are looked at; the parser of URLs fails on more than 65,535."""


class NeverRefusing(HttpToolsProtocol):
    """Hangs up where others answer 400, and cuts a target that is too long.

    By ext_authz over HTTP Envoy repeats here what a stranger sent: method and path. It would take a 4xx for the verdict
    that the stranger be refused, but lets the request go on when the call breaks.
    """

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self.url = self.url[:LONGEST_TARGET]

    def send_400_response(self, msg: str) -> None:
        self.logger.warning(msg)
        self.transport.close()

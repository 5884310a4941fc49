"""ext_authz over gRPC: Envoy asks `Check` about each marked request, and is answered when the hold ends.

The answer is always OK. Whoever breaks off the call has hung up, which ends the hold. This module alone speaks gRPC,
and is imported only when the sidecar is to: the library is large, and not always installed.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.service.auth.v3 import external_auth_pb2
from grpc import aio

from squash import serve
from squash.errors import SettingError
from squash.logs import Log
from squash.options import Address
from squash.result import HEADER, Result

from .headers import AUTHORITY, FORWARDED, IGNORED, METHOD, PATH, MarkedRequest, marked_request
from .holds import Holds
from .identity import CLAIMS, Peer
from .onward import onward
from .relay import Relay, relaying
from .ticket import Gate

SERVICE = "envoy.service.auth.v3.Authorization"
# An address that another process has is an error, not a share of its calls.
_OPTIONS = (("grpc.so_reuseport", 0),)
_WIRE = {name: wire for name, wire in FORWARDED.items() if not name.startswith(":")}
_log = Log("authz")


@contextlib.asynccontextmanager
async def serving(holds: Holds, gate: Gate, address: Address | None, path: Path | None) -> AsyncIterator[None]:
    """Answers on `address` (port 0: a free one) and on the unix socket `path` while it lasts. Raises SettingError.

    At its end the calls under way are given time for their answers, which they have once `holds` is stopped.
    """
    async with contextlib.AsyncExitStack() as stack:
        relay = None
        if path:
            sock = stack.enter_context(serve.listening_at(path, "--grpc-listen-socket"))
            relay = await stack.enter_async_context(relaying(sock))
        server = _server(holds, gate, relay)
        where = _bound(server, address) if address else None
        if relay:
            server.add_insecure_port(f"unix:{relay.inner}")
        await server.start()
        _log.info("answers ext_authz over gRPC", listen=str(where) if where else None, socket=path)
        try:
            yield
        finally:
            await server.stop(serve.LAST_ANSWERS)


def _server(holds: Holds, gate: Gate, relay: Relay | None) -> aio.Server:
    server = aio.server(options=_OPTIONS)
    checks = grpc.unary_unary_rpc_method_handler(
        _Checks(holds, gate, relay).check,
        request_deserializer=external_auth_pb2.CheckRequest.FromString,
        response_serializer=external_auth_pb2.CheckResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Check": checks}),))
    return server


def _bound(server: aio.Server, address: Address) -> Address:
    try:
        return Address(address.host, server.add_insecure_port(str(address)))
    except RuntimeError as error:
        # The library says too little; an attempt of our own knows who holds the port.
        serve.bind(address, "--grpc-listen").close()
        raise SettingError(f"cannot listen on {address} (--grpc-listen): {error}") from error


class _Checks:
    def __init__(self, holds: Holds, gate: Gate, relay: Relay | None) -> None:
        self._holds = holds
        self._gate = gate
        self._relay = relay

    async def check(self, request: Any, context: Any) -> Any:
        came = asyncio.get_running_loop().time()
        marked = await self._gate.admitted(told(request, context.invocation_metadata() or ()))
        if marked is None:
            return ignoring()
        held = self._holds.begin(marked, self._peer(context.peer()), came)
        try:
            result = await asyncio.shield(held.over)
        except asyncio.CancelledError:
            self._holds.caller_gone(held)
            raise
        return answer(result, onward(held.marked, result))

    def _peer(self, address: str) -> Peer | None:
        if self._relay and (found := self._relay.peer(address)):
            return found
        # `ipv4:10.0.0.1:1234` or `ipv6:[::1]:1234`, the brackets escaped.
        kind, _, rest = unquote(address).partition(":")
        return Peer(address=rest.rpartition(":")[0].strip("[]")) if kind in ("ipv4", "ipv6") else None


def told(request: Any, metadata: Iterable[tuple[str, str | bytes]] = ()) -> MarkedRequest:
    """What a CheckRequest and its metadata tell of the request.

    Headers come as bytes (`encode_raw_headers`), by their own names.
    """
    http = request.attributes.request.http
    headers = [(_WIRE.get(one.key, ""), one.raw_value) for one in http.header_map.headers]
    attributes = {METHOD: http.method, PATH: http.path, AUTHORITY: http.host}
    headers += [(name, value.encode()) for name, value in attributes.items() if value]
    headers += [(name, value.encode()) for name, value in metadata if name in CLAIMS and isinstance(value, str)]
    return marked_request((name.encode(), value) for name, value in headers)


def answer(result: Result, onward: Mapping[str, str]) -> Any:
    """A CheckResponse that lets the request go with these headers, and puts the result on its response."""
    response = external_auth_pb2.CheckResponse()
    response.status.code = 0
    response.ok_response.headers.extend(_replacing(name, value) for name, value in onward.items())
    response.ok_response.response_headers_to_add.append(_replacing(HEADER, str(result)))
    return response


def ignoring() -> Any:
    """A CheckResponse that lets the request go as if it had no mark."""
    response = external_auth_pb2.CheckResponse()
    response.status.code = 0
    response.ok_response.SetInParent()
    response.dynamic_metadata[IGNORED] = "true"
    return response


def _replacing(name: str, value: str) -> Any:
    return base_pb2.HeaderValueOption(
        header=base_pb2.HeaderValue(key=name, value=value),
        append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )

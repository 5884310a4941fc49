"""The sidecar: holds marked requests for the Envoy next to it.

    POST /holds        what is held, in headers; 200 with `x-squash-result` when the request may go on at once,
                       202 with `x-squash-hold: ID` when it is to wait; 200 with `x-squash-ignored` when its mark
                       does not count
    GET  /holds/ID     answered when the hold ends: 200 with `x-squash-result`
    any  /authz/PATH   ext_authz: both in one, PATH and method being those of the held request; always answered 200

With `x-squash-result` come the headers to set on the request on its way onwards (see onward.py). What auto-debug
asks stands in auto_calls.py.
Whoever breaks off one of these calls has hung up, which ends the hold. Plain ASGI, because this process runs once
per pod and is measured by its memory.
"""

import asyncio
import contextlib
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import uvloop

from squash import logs, serve
from squash.credentials import Credentials
from squash.errors import SettingError
from squash.options import die, load_or_exit
from squash.result import HEADER
from squash.settings import SidecarSettings

from .answers import Receive, Scope, Send, answer
from .armed import Armed
from .auto_calls import AutoCalls
from .headers import AUTHORITY, CHECK_PREFIX, HOLD, IGNORED, METHOD, PATH, marked_request
from .holds import Held, Holds
from .http1 import Http1Client
from .lookout import Lookout
from .onward import onward
from .protocol import NeverRefusing
from .tenants import Tenants
from .ticket import Gate

if TYPE_CHECKING:
    from .spans import Spans

_CHECK = CHECK_PREFIX.encode()
FETCHED_WITHIN = 5.0
"""Seconds after the 202 in which the second call must come; Envoy sends it at once unless its caller has gone."""


class Sidecar:
    """The ASGI application."""

    def __init__(self, holds: Holds, gate: Gate, auto: AutoCalls) -> None:
        self._holds = holds
        self._gate = gate
        self._auto = auto
        self._parked: dict[str, tuple[Held, asyncio.TimerHandle]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["raw_path"].startswith(_CHECK):
            # Answered 200 like all that ask here, whatever path and method they have.
            await (_ignore(send) if _of_a_page(scope) else self._check(scope, send))
        elif _of_a_page(scope):
            await answer(send, 403, body=b"no web page may drive this\n")
        elif (call := self._auto.calls.get((scope["method"], scope["path"]))) is None:
            await self._call(scope, send)
        elif held := await call(scope, receive, send):
            await self._until_over(held, scope, send)

    async def _call(self, scope: Scope, send: Send) -> None:
        match scope["method"], scope["path"].split("/")[1:]:
            case "POST", ["holds"]:
                await self._hold(scope, send)
            case "GET", ["holds", hold]:
                await self._fetch(hold, scope, send)
            case "GET", ["metrics"]:
                text = self._holds.metrics.text()
                await answer(send, 200, {"content-type": "text/plain; version=0.0.4; charset=utf-8"}, text)
            case "GET", ["healthz"]:
                await answer(send, 200, body=b"ok\n")
            case "GET", ["readyz"]:
                # Says nothing of the coordinator: without it requests go on, and the pod must stay in service.
                if self._holds.stopping:
                    await answer(send, 503, body=b"stopping\n")
                else:
                    await answer(send, 200, body=b"ready\n")
            case _, ["holds" | "metrics" | "healthz" | "readyz"] | ["holds", _]:
                await answer(send, 405, body=b"this path does not answer this method\n")
            case _:
                await answer(send, 404, body=b"no such path\n")

    async def _hold(self, scope: Scope, send: Send) -> None:
        came = asyncio.get_running_loop().time()
        marked = await self._gate.admitted(marked_request(scope["headers"]))
        if marked is None:
            await _ignore(send)
            return
        await self._until_placed(self._holds.begin(marked, scope["state"]["link"].peer, came), scope, send)

    async def _until_placed(self, held: Held, scope: Scope, send: Send) -> None:
        with self._heard(held, scope):
            await held.placed
        if held.over.done():
            await self._let_go(send, held)
        else:
            name = held.hold.name
            timer = asyncio.get_running_loop().call_later(FETCHED_WITHIN, self._not_fetched, name)
            self._parked[name] = held, timer
            await answer(send, 202, {HOLD: name})

    async def _check(self, scope: Scope, send: Send) -> None:
        came = asyncio.get_running_loop().time()
        path = scope["raw_path"].removeprefix(_CHECK)
        query = scope["query_string"]
        own = {
            METHOD: scope["method"].encode(),
            PATH: path + b"?" + query if query else path,
            AUTHORITY: next((value for name, value in scope["headers"] if name == b"host"), b""),
        }
        told = [(name.encode(), value) for name, value in own.items()]
        marked = await self._gate.admitted(marked_request([*scope["headers"], *told]))
        if marked is None:
            await _ignore(send)
        else:
            held = self._holds.begin(marked, scope["state"]["link"].peer, came)
            await self._until_over(held, scope, send)

    async def _until_over(self, held: Held, scope: Scope, send: Send) -> None:
        with self._heard(held, scope):
            await held.over
        await self._let_go(send, held)

    @contextlib.contextmanager
    def _heard(self, held: Held, scope: Scope) -> Iterator[None]:
        """Meanwhile the hold ends when its caller hangs up. No task a hold: a thousand may end in one moment."""
        closed: asyncio.Future[None] = scope["state"]["link"].closed

        def gone(_: object) -> None:
            self._holds.caller_gone(held)

        closed.add_done_callback(gone)
        try:
            yield
        finally:
            closed.remove_done_callback(gone)

    async def _let_go(self, send: Send, held: Held) -> None:
        result = held.over.result()
        headers: dict[str, str] | None = {HEADER: str(result)} | onward(held.marked, result)
        if held.marked.trigger is not None:
            headers = self._auto.headers(held)
        await (answer(send, 204) if headers is None else answer(send, 200, headers))

    def _not_fetched(self, name: str) -> None:
        held, _ = self._parked.pop(name)
        self._holds.caller_gone(held)

    async def _fetch(self, name: str, scope: Scope, send: Send) -> None:
        if name not in self._parked:
            await answer(send, 404, body=b"no such hold, or it has been asked for already\n")
            return
        held, timer = self._parked.pop(name)
        timer.cancel()
        await self._until_over(held, scope, send)


def _of_a_page(scope: Scope) -> bool:
    """Whether a browser makes this call on behalf of a page. Envoy passes on no such header."""
    return any(
        name == b"origin" or (name == b"sec-fetch-site" and value not in (b"none", b"same-origin"))
        for name, value in scope["headers"]
    )


async def _ignore(send: Send) -> None:
    await answer(send, 200, {IGNORED: "true"})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return


class Parts(NamedTuple):
    """What is served where; `stop` lets go whatever is held, and comes before the end."""

    app: Sidecar
    stop: Callable[[], None]
    sock: socket.socket
    also: list[socket.socket]


@contextlib.asynccontextmanager
async def parts(settings: SidecarSettings) -> AsyncIterator[Parts]:
    """The sidecar, ready to be served. Raises SettingError."""
    client = Http1Client(settings.server_url, credentials=Credentials.of(settings.server_url, settings))
    tenants = Tenants(settings, os.environ)
    spans = _spans(settings)
    holds = Holds(client, tenants, settings, *([spans.ended] if spans else []))
    gate = Gate(settings, client, tenants.namespace, holds.metrics)
    lookout = Lookout()
    armed = Armed(client, tenants.container, lookout, holds.metrics.decided)
    auto = AutoCalls(holds, gate, armed, lookout, settings.failure_headers)

    def stop() -> None:
        holds.stop()
        armed.stop()

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(_grpc(settings, holds, gate))
        sock = stack.enter_context(serve.bind(settings.listen, "--listen"))
        also = []
        if settings.listen_socket:
            also.append(stack.enter_context(serve.listening_at(settings.listen_socket, "--listen-socket")))
        gate.start()
        yield Parts(Sidecar(holds, gate, auto), stop, sock, also)
    gate.stop()
    await holds.close()
    if spans:
        await spans.close()


async def _serve(settings: SidecarSettings) -> None:
    async with parts(settings) as made:
        # What was loaded stays: the collector need not walk over it again and again.
        gc.freeze()
        await serve.run(made.app, made.sock, "squash-sidecar", made.stop, protocol=NeverRefusing, also=made.also)


def _spans(settings: SidecarSettings) -> "Spans | None":
    if settings.otlp_endpoint is None:
        return None
    try:
        from .spans import Spans  # noqa: PLC0415 - large, and not always installed
    except ImportError as error:
        raise SettingError(
            f"otlp_endpoint = {settings.otlp_endpoint!r} cannot be used: {error}; "
            "install it with: pip install squash[otel]"
        ) from error
    return Spans(settings.otlp_endpoint)


def _grpc(settings: SidecarSettings, holds: Holds, gate: Gate) -> contextlib.AbstractAsyncContextManager[object]:
    if settings.grpc_listen is None and settings.grpc_listen_socket is None:
        return contextlib.nullcontext()
    try:
        from .authz import serving  # noqa: PLC0415 - large, and not always installed
    except ImportError as error:
        given = settings.grpc_listen or settings.grpc_listen_socket
        raise SettingError(
            f"grpc_listen = '{given}' cannot be used: {error}; install it with: pip install squash[grpc]"
        ) from error
    return serving(holds, gate, settings.grpc_listen, settings.grpc_listen_socket)


def main() -> None:
    """The program `squash-sidecar`."""
    settings = load_or_exit(SidecarSettings, "sidecar", "Holds marked requests for the Envoy next to it.")
    logs.setup(settings.log_level, settings.log_format)
    try:
        uvloop.run(_serve(settings))
    except SettingError as error:
        die("sidecar", error, 2)

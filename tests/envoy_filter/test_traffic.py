"""Traffic that is more than one request and one answer: gRPC calls and websockets, marked and unmarked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc import aio

from envoy_filter.front_end import FrontEnd
from squash.model import Outcome, State
from squash.result import HEADER, MARK, Result, parse
from squash.tasks import spawn
from tests.envoy_filter.coordinator_double import CoordinatorDouble
from tests.envoy_filter.stack import stack

OPTIONS = (("grpc.enable_http_proxy", 0),)
MARKED = ((MARK, "1"), ("x-own", "kept"))
UNMARKED = (("x-own", "kept"),)


class Shop:
    """A gRPC service: `Order` answers once, `Watch` answers each message of a stream. Messages are plain bytes."""

    def __init__(self) -> None:
        self.calls: list[dict[str, str | bytes]] = []

    async def order(self, request: bytes, context: "aio.ServicerContext[bytes, bytes]") -> bytes:
        self._keep(context)
        if request == b"nothing":
            await context.abort(grpc.StatusCode.NOT_FOUND, "sold out")
        return b"ordered " + request

    async def watch(
        self, requests: AsyncIterator[bytes], context: "aio.ServicerContext[bytes, bytes]"
    ) -> AsyncIterator[bytes]:
        self._keep(context)
        async for each in requests:
            yield b"seen " + each
        context.set_trailing_metadata((("x-last", "there"),))

    def _keep(self, context: "aio.ServicerContext[bytes, bytes]") -> None:
        self.calls.append({str(key): value for key, value in context.invocation_metadata() or ()})

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """The port."""
        server = aio.server(options=(("grpc.so_reuseport", 0),))
        methods: dict[str, Any] = {
            "Order": grpc.unary_unary_rpc_method_handler(self.order),
            "Watch": grpc.stream_stream_rpc_method_handler(self.watch),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Shop", methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield port
        finally:
            await server.stop(None)


class Client:
    def __init__(self, channel: aio.Channel) -> None:
        self.order: Any = channel.unary_unary("/shop.Shop/Order")
        self.watch: Any = channel.stream_stream("/shop.Shop/Watch")


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
async def client(tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd, shop: Shop) -> AsyncIterator[Client]:
    """A gRPC client in front of Envoy, the shop behind it."""
    async with (
        shop.serving() as port,
        stack(tmp_path, double.url, front_end=front_end, upstream_protocol="http2", upstream_port=port) as held,
        aio.insecure_channel(held.url.removeprefix("http://"), options=OPTIONS) as channel,
    ):
        yield Client(channel)


async def said(call: Any) -> Result | None:
    """What the response's headers say of the hold."""
    values = [value for key, value in await call.initial_metadata() if key == HEADER]
    assert len(values) <= 1
    return parse(values[0]) if values else None


async def test_unary_call(client: Client, double: CoordinatorDouble, shop: Shop) -> None:
    call = client.order(b"plums", metadata=UNMARKED)
    assert await call == b"ordered plums"
    assert await said(call) is None
    assert double.calls == []
    call = client.order(b"pears", metadata=MARKED)
    [name] = await double.created()
    told = double.attachments[name].spec.held
    assert told is not None
    assert (told.method, told.path) == ("POST", "/shop.Shop/Order")
    assert len(shop.calls) == 1
    await double.change(name, State.ATTACHED)
    assert await call == b"ordered pears"
    result = await said(call)
    assert result is not None
    assert (result.outcome, result.id) == (Outcome.ATTACHED, name)
    unmarked, marked = shop.calls
    assert marked.pop(MARK) == "1"
    # Envoy's own default timeout, which a marked request does not have.
    del unmarked["x-envoy-expected-rq-timeout-ms"]
    assert marked.keys() - {"baggage"} == unmarked.keys()


async def test_call_that_fails_keeps_its_status(client: Client, double: CoordinatorDouble) -> None:
    call = client.order(b"nothing", metadata=MARKED)
    [name] = await double.created()
    await double.change(name, State.ATTACHED)
    assert (await call.code(), await call.details()) == (grpc.StatusCode.NOT_FOUND, "sold out")


@pytest.mark.parametrize("metadata", [UNMARKED, MARKED], ids=["unmarked", "marked"])
async def test_streaming_call(client: Client, double: CoordinatorDouble, shop: Shop, metadata: Any) -> None:
    call = client.watch(metadata=metadata)
    await call.write(b"first")
    marked = metadata is MARKED
    if marked:
        [name] = await double.created()
        assert shop.calls == []
        await double.change(name, State.ATTACHED)
    assert await call.read() == b"seen first"
    await call.write(b"x" * 300_000)
    assert await call.read() == b"seen " + b"x" * 300_000
    await call.done_writing()
    assert await call.read() is aio.EOF
    assert await call.code() is grpc.StatusCode.OK
    assert ("x-last", "there") in tuple(await call.trailing_metadata())
    result = await said(call)
    assert (result.outcome if result else None) == (Outcome.ATTACHED if marked else None)


async def test_caller_that_gives_up(client: Client, double: CoordinatorDouble, shop: Shop) -> None:
    call = client.watch(metadata=MARKED)
    await call.write(b"first")
    [name] = await double.created()
    await double.until(lambda: "changes" in double.calls)
    call.cancel()
    await double.until(lambda: bool(double.patched(name)))
    assert double.attachments[name].status.outcome is Outcome.CALLER_GONE
    assert shop.calls == []


UPGRADE = (
    "GET /live HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{mark}\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"


class Live:
    """An upstream that takes every connection for a websocket, and sends back what it is sent."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(SWITCHED)
            while data := await reader.read(65_536):
                writer.write(data)
        writer.close()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """The port."""
        server = await asyncio.start_server(self._echo, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            await server.wait_closed()


@pytest.mark.parametrize("mark", ["", f"{MARK}: 1\r\n"], ids=["unmarked", "marked"])
async def test_websocket(tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd, mark: str) -> None:
    live = Live()
    async with (
        live.serving() as port,
        stack(tmp_path, double.url, front_end=front_end, upstream_port=port) as held,
    ):
        address = httpx.URL(held.url)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(UPGRADE.format(mark=mark).encode())
        answered = spawn(reader.readuntil(b"\r\n\r\n"), "upgrade")
        if mark:
            [name] = await double.created()
            assert live.heads == []
            await double.change(name, State.ATTACHED)
        head = await answered
        assert head.startswith(b"HTTP/1.1 101 ")
        assert (f"{HEADER}: attached; id=".encode() in head) == bool(mark)
        for frame in (b"\x81\x05hello", bytes(range(256)) * 1000):
            writer.write(frame)
            assert await reader.readexactly(len(frame)) == frame
        assert bool(double.calls) == bool(mark)
        [seen] = live.heads
        assert (MARK.encode() in seen) == bool(mark)
        assert b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==" in seen
        writer.close()
        await writer.wait_closed()

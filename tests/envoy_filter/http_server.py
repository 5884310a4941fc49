"""An HTTP/1.1 server of the tests' own, in the test's event loop, that may also answer what no server should."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, cast
from urllib.parse import parse_qsl

import httptools

from squash.tasks import spawn


@dataclass
class Request:
    method: str = ""
    target: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    """Trailers stand at the end."""
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.target.partition("?")[2]))

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def __bytes__(self) -> bytes:
        head = f"HTTP/1.1 {self.status} Answer\r\ncontent-length: {len(self.body)}\r\n"
        return (head + "".join(f"{k}: {v}\r\n" for k, v in self.headers) + "\r\n").encode() + self.body


Handler = Callable[[Request], Awaitable[Reply | bytes | None]]
"""Bytes are sent as they are and end the connection; None ends it without an answer."""


class HttpServer:
    """Listens on a free port of 127.0.0.1 while its `async with` lasts."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Also after `stop`, on the same port again."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self._handler, self.connections), "127.0.0.1", self.port, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends all connections at once, as a killed process does."""
        if self._server is not None:
            self._server.close()
            tasks = [task for connection in list(self.connections) if (task := connection.abort())]
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class _Connection(asyncio.Protocol):
    """One connection, one request at a time; its handler is cancelled when the client hangs up."""

    def __init__(self, handler: Handler, connections: "set[_Connection]") -> None:
        self._handler = handler
        self.connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    def abort(self) -> asyncio.Task[None] | None:
        if self._transport is not None:
            self._transport.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._request = Request()

    def on_url(self, url: bytes) -> None:
        self._request.target += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_body(self, body: bytes) -> None:
        self._request.body += body

    def on_message_complete(self) -> None:
        self._request.method = self._parser.get_method().decode()
        self._task = spawn(self._answer(self._request), "test server")

    async def _answer(self, request: Request) -> None:
        answer = await self._handler(request)
        if self._transport is None or self._transport.is_closing():
            return
        if answer is not None:
            self._transport.write(bytes(answer))
        if not isinstance(answer, Reply):
            self._transport.close()

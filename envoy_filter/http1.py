"""A small HTTP/1.1 client for calls of the REST API: keep-alive connections, one call at a time on each.

The sidecar runs once per pod and has one server to talk to. On this it needs 10 MB less than httpx, and a fraction
of its time for a call, which is what a thousand holds at once wait for.
"""

import asyncio
from typing import Any, TypeVar, cast
from urllib.parse import SplitResult, urlencode

import httptools

from squash import server_url
from squash.calls import Call, decode
from squash.credentials import Credentials, anonymous
from squash.errors import UnreachableError

T = TypeVar("T")
LARGEST = 64 * 2**20
"""Bytes of an answer; ten thousand attachments are a tenth of it."""
GRACE = 5.0
"""Seconds that a long poll's answer may be late."""


class Http1Client:
    """`timeout` in seconds, for calls that neither wait nor name their own."""

    def __init__(self, url: str, timeout: float = 10.0, credentials: Credentials | None = None) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        parts = _split(url)
        self._credentials = credentials or anonymous(url)
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._base = parts.path.rstrip("/")
        self._authority = parts.netloc
        self._idle: list[_Connection] = []
        self._closed = False

    async def send(self, call: Call[T], timeout: float | None = None) -> T:
        """Raises ApiError when the server refuses, UnreachableError when no whole answer came in time."""
        code, content = await self.exchange(call, timeout)
        return decode(call, self.url, code, content)

    async def exchange(self, call: Call[Any], timeout: float | None = None) -> tuple[int, bytes]:
        """Status and body of the answer, whatever they are. Raises UnreachableError."""
        if timeout is None:
            timeout = self._timeout if call.wait is None else call.wait + GRACE
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(self._request(call))
        except TimeoutError as error:
            raise UnreachableError(f"{self.url}: did not answer in {timeout:.3g} s") from error
        except OSError as error:
            raise UnreachableError(f"{self.url}: {error.strerror or error}") from error

    def close(self) -> None:
        self._closed = True
        self._drop_idle()

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            answer = await connection.send(request)
        except ConnectionError:
            # The server was probably started anew: the other idle connections are no better.
            self._drop_idle()
            raise
        finally:
            if connection.reusable and not self._closed:
                self._idle.append(connection)
            else:
                connection.abort()
        return answer

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self._idle), self._host, self._port, ssl=self._credentials.context()
        )
        return connection

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    def _request(self, call: Call[Any]) -> bytes:
        query = f"?{urlencode(call.params)}" if call.params else ""
        body = call.body or b""
        lines = [f"{call.method} {self._base}{call.path}{query} HTTP/1.1", f"host: {self._authority}"]
        lines += [f"{name}: {value}" for name, value in (call.headers | self._credentials.headers()).items()]
        if call.body is not None or call.method in ("POST", "PATCH"):
            lines.append(f"content-length: {len(body)}")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class _Connection(asyncio.Protocol):
    """One connection; also what its parser calls back. Takes itself out of `idle` when the server closes it."""

    def __init__(self, idle: "list[_Connection]") -> None:
        self._idle = idle
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = bytearray()
        self.reusable = False

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """Raises ConnectionError when the connection breaks before the answer is whole."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("closed while idle")
        self.reusable = False
        self._body.clear()
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def abort(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"the answer is not HTTP: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._idle:
            self._idle.remove(self)
        self._fail(str(exc) if exc else "the connection was closed before the answer was whole")

    def _fail(self, why: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError(why))
        self.abort()

    # -- httptools.HttpResponseParser

    def on_body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > LARGEST:
            self._fail(f"the answer is larger than {LARGEST} bytes")

    def on_message_complete(self) -> None:
        code = self._parser.get_status_code()
        if code < 200:
            return  # an interim answer, RFC 9110 section 15.2
        if self._answer is None or self._answer.done():
            self.abort()  # nobody asked for this
            return
        self.reusable = self._parser.should_keep_alive()
        self._answer.set_result((code, bytes(self._body)))


def _split(url: str) -> SplitResult:
    parts = server_url.split(url)
    if parts.query or parts.fragment or "@" in parts.netloc or not url.isascii():
        raise server_url.unusable(url)
    return parts

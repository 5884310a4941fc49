"""A service that answers with when the request arrived, by the monotonic clock that all processes share.

`python -m bench.upstream` on a free port.
"""

import asyncio
import json
import signal
import time

from squash import serve
from squash.options import Address


class Arrival(asyncio.Protocol):
    """Takes requests without a body, one after another."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        arrived = time.monotonic()
        assert self._transport
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            self._head = b""
            body = json.dumps({"arrived": arrived}).encode()
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))


async def _serve() -> None:
    with serve.bind(Address("127.0.0.1", 0), "upstream") as sock:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Arrival, sock=sock)
        over = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, over.set)
        serve.announce("upstream", f"http://{Address(*sock.getsockname()[:2])}")
        await over.wait()
        server.close()


if __name__ == "__main__":
    asyncio.run(_serve())

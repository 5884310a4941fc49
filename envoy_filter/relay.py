"""gRPC on a unix socket, with the peer of each connection: the library does not tell whose it is.

A connection is accepted here, its peer looked at, and its bytes passed on to the library's own socket in a directory
of ours, from an unguessable address: by that the library's `peer()` names the connection.
"""

import asyncio
import contextlib
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path

from squash.tasks import spawn

from .identity import Peer, peer_of

_CHUNK = 65_536


class Relay:
    """`inner` is where the library has to listen."""

    def __init__(self, inner: str) -> None:
        self.inner = inner
        self._peers: dict[str, Peer] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def peer(self, address: str) -> Peer | None:
        """Who is behind a connection that the library knows by this address; None for one that is not from here."""
        return self._peers.get(address.removeprefix("unix-abstract:"))

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = spawn(self._serve(reader, writer), "relay")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        name = f"squash-{secrets.token_hex(16)}"
        with contextlib.closing(writer), contextlib.suppress(OSError):
            self._peers[name] = peer_of(writer.get_extra_info("socket"))
            try:
                with socket.socket(socket.AF_UNIX) as end:
                    end.setblocking(False)
                    end.bind(f"\0{name}")
                    await asyncio.get_running_loop().sock_connect(end, self.inner)
                    there, back = await asyncio.open_unix_connection(sock=end.dup())
                with contextlib.closing(back):
                    await _first_of(_copy(reader, back), _copy(there, writer))
            finally:
                del self._peers[name]


async def _first_of(*works: Coroutine[None, None, None]) -> None:
    tasks = [spawn(work, "relay") for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()


@contextlib.asynccontextmanager
async def relaying(sock: socket.socket) -> AsyncIterator[Relay]:
    """Serves connections to `sock`, while it lasts."""
    with tempfile.TemporaryDirectory(prefix="squash-grpc-") as directory:
        relay = Relay(str(Path(directory) / "grpc.sock"))
        server = await asyncio.start_unix_server(relay.accept, sock=sock)
        try:
            yield relay
        finally:
            server.close()
            await relay.close()

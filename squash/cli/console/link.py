"""The way to a debug server: one stream of the tunnel, as one end of a socket."""

import asyncio
import socket

from squash.cli.local_end import LocalEnd
from squash.client import Client
from squash.errors import SquashError
from squash.tasks import spawn
from squash.tunnel import CHUNK, Guest


class Link:
    """`open` it once, then read and write; `close` says what broke, if something did."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def __init__(self, client: Client, attachment: str, guest: Guest) -> None:
        self._connected = asyncio.Event()
        self._end = LocalEnd(client.url, attachment, lambda _: self._connected.set(), guest, client.credentials)
        self._carrying: asyncio.Task[SquashError | None] | None = None

    async def open(self) -> None:
        """Raises SquashError when the coordinator or the agent refuses, or cannot be reached."""
        ours, theirs = socket.socketpair()
        self.reader, self.writer = await asyncio.open_connection(sock=ours, limit=CHUNK)
        carrying = self._carrying = spawn(self._carry(theirs), "tunnel of the console")
        connected = spawn(self._connected.wait(), "tunnel connected")
        try:
            await asyncio.wait({carrying, connected}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connected.cancel()
        if carrying.done() and (error := carrying.result()):
            self.writer.close()
            raise error

    async def close(self) -> SquashError | None:
        """Ends it; returns what had broken before."""
        carrying = self._carrying
        if not carrying:
            return None
        self.writer.close()
        # What broke at the other end breaks ours: it is told a moment later than the data ends.
        await asyncio.wait({carrying}, timeout=CLOSING)
        if not carrying.done():
            carrying.cancel()
            await asyncio.wait({carrying})
            return None
        return carrying.result()

    async def _carry(self, theirs: socket.socket) -> SquashError | None:
        try:
            await self._end.once(*await asyncio.open_connection(sock=theirs, limit=CHUNK))
        except SquashError as error:
            return error
        return None


CLOSING = 3.0
"""Seconds for both ends of a stream to agree on its end."""

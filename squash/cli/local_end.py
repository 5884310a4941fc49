"""The local end of a tunnel: a port, or standard input and output, at which one client after another is served."""

import asyncio
import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable

from squash import procfs
from squash.credentials import Credentials
from squash.errors import SquashError
from squash.options import Address
from squash.reasons import Reason
from squash.splice import Splice
from squash.tasks import spawn
from squash.tunnel import CHUNK, NOBODY, Guest
from squash.websocket import dial_tunnel

LEAVING = 1.0
"""Seconds that a client may still need to be gone when the next one comes."""


class LocalEnd:
    """Serves clients of the debug server of `attachment` through the coordinator at `url`, one at a time.

    `note` is told, in words, of clients that come and go.
    """

    def __init__(
        self,
        url: str,
        attachment: str,
        note: Callable[[str], None],
        guest: Guest = NOBODY,
        credentials: Credentials | None = None,
    ) -> None:
        self._url = url
        self._attachment = attachment
        self._guest = guest
        self._credentials = credentials
        self._note = note
        self._client: asyncio.Task[None] | None = None
        self._came = asyncio.Event()
        self._left = asyncio.Event()
        self._failure: SquashError | None = None
        self.served = 0
        """How many clients have been connected to the debug server."""

    async def once(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one client until it leaves. Raises SquashError when that cannot be, or breaks off."""
        try:
            tunnel = await dial_tunnel(self._url, self._attachment, self._guest, self._credentials)
        except BaseException:
            writer.transport.abort()
            raise
        self.served += 1
        self._note("client connected")
        splice = Splice(reader, writer, tunnel)
        broken = await splice.run()
        if broken and not splice.reset:
            raise SquashError(Reason.STREAM_BROKEN, f"the connection to the debug server broke off: {broken}")
        self._note("client left")

    async def listen(self, sock: socket.socket, *, only_one: bool) -> SquashError | None:
        """Serves whoever connects, until cancelled. With `only_one` the port is closed when the first client comes,
        and this ends with it; returns why it could not be served to its end.
        """
        server = await asyncio.start_server(self._accept, sock=sock, limit=CHUNK)
        try:
            if not only_one:
                await server.serve_forever()
            await self._came.wait()
            server.close()
            await self._left.wait()
            return self._failure
        finally:
            server.close()
            if self._client:
                self._client.cancel()
                await asyncio.wait({self._client})

    async def stdio(self) -> None:
        """Serves standard input and output as one client. Raises SquashError."""
        ours, theirs = socket.socketpair()
        # Threads, because files and terminals cannot be waited for as sockets can, and are shared with the shell.
        threading.Thread(target=_copy_in, args=(theirs,), name="stdin", daemon=True).start()
        copying_out = threading.Thread(target=_copy_out, args=(theirs,), name="stdout", daemon=True)
        copying_out.start()
        try:
            await self.once(*await asyncio.open_connection(sock=ours, limit=CHUNK))
        finally:
            await asyncio.to_thread(copying_out.join)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._client:
            # One that has just left may still have last words on their way.
            await asyncio.wait({self._client}, timeout=LEAVING)
        if why := self._unwelcome(writer):
            self._note(f"client refused: {why}")
            writer.transport.abort()
            return
        self._client = spawn(self._serve(reader, writer), "local client")
        self._came.set()

    def _unwelcome(self, writer: asyncio.StreamWriter) -> str:
        if self._client and not self._client.done():
            return "one at a time"
        peer, ours = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
        if not peer:
            return "gone already"
        if not Address(*peer[:2]).is_loopback:
            return ""  # whoever lets others in by --insecure-listen has been told
        owner = procfs.owner_of_connection(peer[:2], ours[:2])
        return "" if owner == os.geteuid() else f"it is of user {'unknown' if owner is None else owner}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.once(reader, writer)
        except SquashError as error:
            self._failure = error
            self._note(str(error))
        finally:
            self._left.set()


def _copy_in(pair: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(sys.stdin.fileno(), CHUNK):
            pair.sendall(data)
        pair.shutdown(socket.SHUT_WR)


def _copy_out(pair: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := pair.recv(CHUNK):
            while data:
                data = data[os.write(sys.stdout.fileno(), data) :]
    # Nobody reads what is written, or there is no more: either way this client has left.
    with contextlib.suppress(OSError):
        pair.shutdown(socket.SHUT_RDWR)

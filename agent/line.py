"""The line between the agent and the code that it has brought into a process, over unix sockets.

Nothing listens inside the process. The agent listens in a directory that is the process's user's alone; the code dials
it: once for the control line, on which it gets orders, and once for each client of its debugger.
"""

import asyncio
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.inner import Inner
from agent.process import Process
from agent.streams import Stream
from agent.terms import Terms
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason

CONNECT = 10.0
"""Seconds for the process to dial for a client: a thread of it answers at once unless the interpreter is blocked."""


class Line:
    """The control line, and the connections that the process makes for clients."""

    def __init__(self, process: Process, inner: Inner) -> None:
        self._process = process
        self.inner = inner
        self.ticket = secrets.token_hex(16)
        """Begins the first line of each connection: who knows it is the code that we brought in."""
        self.ended = asyncio.Event()
        self._control: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        self._clients: asyncio.Queue[Stream | None] = asyncio.Queue()
        """The last one is None: the line has ended."""
        self._turn = asyncio.Lock()
        self._listener: asyncio.Server | None = None
        self._watch = -1

    @property
    def arrived(self) -> bool:
        return self._control.done()

    @property
    def path(self) -> str:
        """Where the process dials."""
        return f"{self.inner.inside}/agent.sock"

    async def listen(self, needed: Iterable[Path] = ()) -> None:
        """Opens the socket, and gives it to the process's user with the directory that it stands in.

        Raises SquashError when that user could not use the directory, or read what is `needed` besides.
        """
        process = self._process
        self._listener = await asyncio.start_unix_server(self._accept, sock=self.inner.door("agent.sock"))
        if not self.inner.mount:
            _check_readable(process, [self.inner.own, *needed])
        # The end of the process is the end of the line, even while a child of it holds the socket open.
        try:
            self._watch = procfs.handle(process.pid)
        except ProcessLookupError:
            raise SquashError(Reason.PROCESS_GONE, f"process {process.pid} is gone") from None
        asyncio.get_running_loop().add_reader(self._watch, self._over)

    async def greeting(self) -> dict[str, Any]:
        """The first thing that the code inside says: it is there, or why it is not."""
        return await self._read(await asyncio.shield(self._control))

    async def tell(self, order: str, limit: float = CONNECT) -> bool:
        """True when the order was carried out within `limit` seconds."""
        if not self.arrived or self.ended.is_set():
            return False
        async with self._turn:
            control = self._control.result()
            try:
                async with asyncio.timeout(limit):
                    control.writer.write(order.encode() + b"\n")
                    await control.writer.drain()
                    while said := await self._read(control):
                        if said.get("done") == order.split(maxsplit=1)[0]:
                            return True
                    return False
            except (OSError, TimeoutError):
                self._over()
                return False

    async def client(self, terms: Terms) -> Stream:
        """A connection for a client. Raises OSError when the process does not dial."""
        if not await self.tell("client terminate" if terms.may_end else "client"):
            raise ConnectionError("the process did not dial for the client")
        try:
            async with asyncio.timeout(CONNECT):
                found = await self._clients.get()
        except TimeoutError:
            self._over()
            raise ConnectionError(f"the process said that it dialed, and nobody came within {CONNECT:g} s") from None
        if found is None:
            self._clients.put_nowait(None)
            raise ConnectionError("the line to the process ended before it dialed for the client")
        return found

    async def close(self) -> None:
        """Hangs up; code that comes later finds that it is not wanted. Idempotent."""
        self._over()
        try:
            if self._listener:
                self._listener.close()
            while not self._clients.empty():
                if unused := self._clients.get_nowait():
                    await unused.close()
            self._clients.put_nowait(None)
            if self.arrived and not self._control.cancelled():
                await self._control.result().close()
            self._control.cancel()
        finally:
            await asyncio.to_thread(self.inner.remove)

    def _over(self) -> None:
        if not self.ended.is_set():
            self._clients.put_nowait(None)
        self.ended.set()
        if self._watch >= 0:
            asyncio.get_running_loop().remove_reader(self._watch)
            os.close(self._watch)
            self._watch = -1

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = Stream(reader, writer)
        try:
            async with asyncio.timeout(CONNECT):
                ticket, _, kind = (await reader.readline()).strip().partition(b" ")
        except (OSError, TimeoutError, ValueError):
            ticket = kind = b""
        if not secrets.compare_digest(ticket, self.ticket.encode()) or self.ended.is_set():
            await stream.close()
        elif kind == b"client":
            self._clients.put_nowait(stream)
        elif not self._control.done():
            self._control.set_result(stream)
        else:
            await stream.close()

    async def _read(self, control: Stream) -> dict[str, Any]:
        """The next object on the line; an empty one when the line has ended.

        Raises ConnectionError when something else comes: who says that is not listened to any longer.
        """
        said = b"a line that is too long"
        try:
            said = await control.reader.readline()
            found = json.loads(said or b"{}")
        except (ValueError, RecursionError) as error:  # too long, no JSON, nested too deep
            self._over()
            raise ConnectionError(f"not what the code inside says: {said[:80]!r}") from error
        if not said:
            self._over()
        if not isinstance(found, dict):
            self._over()
            raise ConnectionError(f"not what the code inside says: {said[:80]!r}")
        return found


def _check_readable(process: Process, paths: list[Path]) -> None:
    """Raises SquashError naming what the process's user cannot reach, going by mode bits (path_resolution(7))."""
    if process.uid == 0:
        return
    for path in paths:
        for place in [*reversed(path.resolve().parents), path.resolve()]:
            if not _may(process, place):
                raise SquashError(
                    Reason.FILES_UNREADABLE, f"process {process.pid} of user {process.uid} cannot reach '{place}'"
                )


def _may(process: Process, place: Path) -> bool:
    """Whether its user may pass a directory, or read a file."""
    facts = place.stat()
    shift = 6 if facts.st_uid == process.uid else 3 if facts.st_gid == process.gid else 0
    need = 1 if place.is_dir() else 4
    return bool(facts.st_mode >> shift & need)

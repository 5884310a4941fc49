"""A session that is watched: the debugger behind it is a double that records what is asked of it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.peers import user
from agent.sessions import Doors, Ears, Session
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash.logs import Log
from squash.reasons import Reason

CONTINUE = b"$c#63"
ME = user(os.getuid())


class Echo:
    """A debug server that says back what it is told, over a socket of its own."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "debugger.sock"
        self._listener: asyncio.Server | None = None
        self.died = asyncio.Event()
        self.left = asyncio.Semaphore(0)
        self.refuses = False
        self._connected = 0
        self._over = asyncio.Semaphore(0)

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        self.terms = terms
        if self.refuses:
            raise ConnectionRefusedError
        if not self._listener:
            self._listener = await asyncio.start_unix_server(self._echo, self._path)
        self._connected += 1
        return Stream(*await asyncio.open_unix_connection(self._path))

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                if data == b"bye":
                    break
        finally:
            await Stream(reader, writer).close()
            self._over.release()

    async def disconnected(self) -> None:
        self.left.release()

    async def ended(self) -> None:
        await self.died.wait()

    async def detach(self) -> None:
        for _ in range(self._connected):
            await self._over.acquire()
        if self._listener:
            self._listener.close()


class Watched:
    def __init__(self, directory: Path, protocol: str = "gdb", terms: Terms = ORDINARY) -> None:
        self.path = directory / "client.sock"
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self.events: list[tuple[str, str, str]] = []
        self.debugger = Echo(directory)
        self.session = Session(
            self.debugger,
            protocol,
            Doors(self.path),
            Log("test"),
            terms,
            Ears(
                connected=lambda name: self.told.put_nowait(f"connected {name}"),
                left=lambda: self.told.put_nowait("left"),
                ready=lambda remarks: self.told.put_nowait(f"ready{remarks}"),
                event=lambda name, event: self.events.append((name, *event)),
            ),
        )

    async def client(self) -> Stream:
        return Stream(*await asyncio.open_unix_connection(self.path))


@asynccontextmanager
async def serving(
    directory: Path,
    first_client: float = 60,
    client_grace: float = 60,
    protocol: str = "gdb",
    terms: Terms = ORDINARY,
) -> AsyncIterator[tuple[Watched, asyncio.Task[Reason]]]:
    watched = Watched(directory, protocol, terms)
    assert await watched.session.listen() == f"unix:{directory}/client.sock"
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        run = group.create_task(watched.session.run(first_client, client_grace))
        yield watched, run
        run.cancel()
    await watched.debugger.detach()
    assert not watched.path.exists()

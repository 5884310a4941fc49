"""A session's socket with real clients on it; the debugger behind it is a double that records what is asked of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.sessions import Session
from agent.streams import Stream
from squash.logs import Log
from squash.reasons import Reason

CONTINUE = b"$c#63"


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

    async def connect(self) -> Stream:
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
    def __init__(self, directory: Path) -> None:
        self.told: asyncio.Queue[str] = asyncio.Queue()
        self.debugger = Echo(directory)
        self.session = Session(
            self.debugger,
            "gdb",
            directory / "client.sock",
            Log("test"),
            on_connected=lambda: self.told.put_nowait("connected"),
            on_ready=lambda remarks: self.told.put_nowait(f"ready{remarks}"),
        )

    async def client(self) -> Stream:
        return Stream(*await asyncio.open_unix_connection(self.session.path))


@asynccontextmanager
async def serving(
    directory: Path, first_client: float = 60, client_grace: float = 60
) -> AsyncIterator[tuple[Watched, asyncio.Task[Reason]]]:
    watched = Watched(directory)
    assert await watched.session.listen() == f"unix:{directory}/client.sock"
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        run = group.create_task(watched.session.run(first_client, client_grace))
        yield watched, run
        run.cancel()
    await watched.debugger.detach()
    assert not watched.session.path.exists()


async def test_bytes_pass_and_the_gate_opens_once(short: Path) -> None:
    async with serving(short) as (watched, _):
        client = await watched.client()
        client.writer.write(b"$g#67")
        assert await client.reader.readexactly(5) == b"$g#67"
        assert await watched.told.get() == "connected"
        client.writer.write(CONTINUE + CONTINUE)
        assert await client.reader.readexactly(10) == CONTINUE * 2
        assert await watched.told.get() == "ready"
        await client.close()
        await watched.debugger.left.acquire()
        assert watched.told.empty()


async def test_a_second_client_is_turned_away_and_the_first_not_disturbed(short: Path) -> None:
    async with serving(short) as (watched, _):
        first = await watched.client()
        assert await watched.told.get() == "connected"
        second = await watched.client()
        assert await second.reader.read() == b""
        await second.close()
        first.writer.write(b"still here")
        assert await first.reader.readexactly(10) == b"still here"
        await first.close()


async def test_clients_may_come_one_after_another(short: Path) -> None:
    async with serving(short) as (watched, _):
        for _turn in range(3):
            client = await watched.client()
            client.writer.write(b"hello")
            assert await client.reader.readexactly(5) == b"hello"
            await client.close()
            await watched.debugger.left.acquire()
        assert [watched.told.get_nowait()] == ["connected"]
        assert watched.told.empty(), "told once: the phase of an attachment moves forward only"


async def test_a_client_that_comes_back_at_once_is_served(short: Path) -> None:
    async with serving(short) as (watched, _):
        for _turn in range(5):
            client = await watched.client()
            client.writer.write(b"hello")
            assert await client.reader.readexactly(5) == b"hello"
            client.writer.close()
        await client.close()


async def test_the_session_ends_with_the_debugger(short: Path) -> None:
    async with serving(short) as (watched, run):
        client = await watched.client()
        assert await watched.told.get() == "connected"
        watched.debugger.died.set()
        assert await run is Reason.DEBUGGER_DIED
        assert await client.reader.read() == b""
        await client.close()


async def test_the_session_ends_when_nobody_comes(short: Path) -> None:
    async with serving(short, first_client=0.01) as (_, run):
        assert await run is Reason.CLIENT_GONE


async def test_the_session_ends_when_nobody_comes_back(short: Path) -> None:
    async with serving(short, client_grace=0.01) as (watched, run):
        client = await watched.client()
        assert await watched.told.get() == "connected"
        assert not run.done()
        await client.close()
        assert await run is Reason.CLIENT_GONE


async def test_a_client_is_turned_away_when_the_debugger_cannot_be_reached(short: Path) -> None:
    async with serving(short) as (watched, _):
        watched.debugger.refuses = True
        client = await watched.client()
        assert await client.reader.read() == b""
        await client.close()
        watched.debugger.refuses = False
        client = await watched.client()
        client.writer.write(b"now")
        assert await client.reader.readexactly(3) == b"now"
        await client.close()


async def test_the_debugger_hanging_up_ends_the_client(short: Path) -> None:
    async with serving(short) as (watched, _):
        client = await watched.client()
        client.writer.write(b"bye")
        assert await client.reader.read() == b"bye"
        await client.close()


async def test_the_end_of_the_session_in_the_middle_of_a_parting_still_tells_the_debugger(short: Path) -> None:
    """A client hangs up and the attachment is deleted at the same moment."""
    for turns in range(8):
        async with serving(short) as (watched, run):
            client = await watched.client()
            assert await watched.told.get() == "connected"
            client.writer.close()
            for _ in range(turns):
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.wait({run})
            await asyncio.wait_for(watched.debugger.left.acquire(), 10)


@pytest.mark.parametrize("protocol", ["dap"])
async def test_bytes_that_are_no_protocol_pass_all_the_same(short: Path, protocol: str) -> None:
    async with serving(short) as (watched, _):
        watched.session._protocol = protocol
        client = await watched.client()
        client.writer.write(b"Content-Length: 3\r\n\r\n\xff\xfe\xfd" + b"x" * 9000)
        assert len(await client.reader.readexactly(9024)) == 9024
        await client.close()

"""A debugger that leaves a Go service while requests run into its breakpoint, in each way in which that can happen."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from agent.debuggers.delve import Delve
from agent.sessions import Doors, Session
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash.logs import Log
from squash.tasks import spawn
from tests.agent.delve_client import DapClient, Rpc
from tests.agent.goservice import LIMIT, GoService, delve
from tests.agent.targets import DEAF

RATE = 50
"""Requests a second, all of which run into the breakpoint."""


@asynccontextmanager
async def session(running: GoService, terms: Terms = ORDINARY) -> AsyncIterator[Path]:
    """The socket of a delve on the service, as an agent offers it."""
    server = await Delve(delve()).attach(running.target)
    path = running.place.parent / "client.sock"
    served = Session(server, "delve", Doors(path), Log("test"), terms, DEAF)
    try:
        await served.listen()
        async with asyncio.TaskGroup() as group:
            work = group.create_task(served.run(60, 60))
            yield path
            work.cancel()
    finally:
        await server.detach()


async def dial(path: Path) -> Stream:
    return Stream(*await asyncio.open_unix_connection(path))


@dataclass
class Leaves:
    """What became of the requests, and how long the leaves took."""

    running: GoService
    sent: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    async def take(self, way: str, number: int) -> None:
        """One client that comes, is stopped and leaves; its leaving falls on another moment each time."""
        async with session(self.running) as path:
            begun = await _WAYS[way](self.running, await dial(path), number % 7 * 0.005)
        # The session has ended, and with it the guard.
        assert self.running.child.poll() is None, f"leave {number} by {way}: it ended"
        self.slowest = max(self.slowest, time.monotonic() - begun)

    @asynccontextmanager
    async def traffic(self) -> AsyncIterator[None]:
        """Requests at a steady rate; afterwards all of them have been answered."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self.running.url, timeout=LIMIT, limits=limits) as http:
            stream = spawn(self._stream(http), "requests")
            try:
                yield
            finally:
                stream.cancel()
                await asyncio.wait({stream})

    async def _stream(self, http: httpx.AsyncClient) -> None:
        under_way: set[asyncio.Task[None]] = set()
        try:
            while True:
                task = spawn(self._ask(http), "request")
                under_way.add(task)
                task.add_done_callback(under_way.discard)
                await asyncio.sleep(1 / RATE)  # the rate is what is tested
        finally:
            if under_way:
                await asyncio.wait(under_way)

    async def _ask(self, http: httpx.AsyncClient) -> None:
        self.sent += 1
        amount = self.sent
        try:
            answer = (await http.get(f"/price?amount={amount}")).text
        except httpx.HTTPError as error:
            answer = repr(error)
        if answer != str(3 * amount):
            self.wrong.append(f"request {amount}: {answer}")


async def _disconnect(running: GoService, stream: Stream, delay: float) -> float:
    client = DapClient(stream)
    await client.begin()
    stopped = await client.event("stopped")
    client.say("continue", threadId=stopped["threadId"])
    await asyncio.sleep(delay)  # the moment is what is tested
    begun = time.monotonic()
    await client.ask("disconnect", terminateDebuggee=False)
    await stream.close()
    return begun


async def _begun(stream: Stream) -> Rpc:
    client = Rpc(stream)
    await client.break_at()
    client.say("Command", name="continue")
    await client.stop()
    client.say("Command", name="continue")
    return client


async def _detach(running: GoService, stream: Stream, delay: float) -> float:
    client = await _begun(stream)
    await asyncio.sleep(delay)  # as above
    begun = time.monotonic()
    assert await client.ask("Detach", Kill=False) == {}
    await stream.close()
    return begun


async def _vanish(running: GoService, stream: Stream, delay: float) -> float:
    await _begun(stream)
    await asyncio.sleep(delay)  # as above
    begun = time.monotonic()
    stream.writer.transport.abort()
    return begun


def _killing(whom: Callable[[GoService], int]) -> Callable[[GoService, Stream, float], Awaitable[float]]:
    async def kill(running: GoService, stream: Stream, delay: float) -> float:
        await _begun(stream)
        await asyncio.sleep(delay)  # as above
        begun = time.monotonic()
        os.kill(whom(running), signal.SIGKILL)
        await stream.reader.read()
        await stream.close()
        return begun

    return kill


_WAYS: dict[str, Callable[[GoService, Stream, float], Awaitable[float]]] = {
    "disconnect": _disconnect,
    "Detach": _detach,
    "vanish": _vanish,
    "kill": _killing(GoService.delve),
    "kill its guard": _killing(GoService.guard),
}
WAYS = tuple(_WAYS)

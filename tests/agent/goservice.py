"""A Go service to debug: goroutines at work, and prices by HTTP; and the delve that can debug it."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from agent import traps
from agent.debuggers import Target
from agent.process import Process
from agent.taskstat import stopped
from squash.tasks import spawn
from tests.agent.native import until
from tests.drivers.helpers import GUARD, TRACER, helpers_of

T = TypeVar("T")
ROOT = Path(__file__).parent.parent.parent
MADE = ROOT / "build/delve"
SOURCE = ROOT / "tests/agent/golang/service.go"
LIMIT = 30.0


def provided() -> Path:
    """The directory with the programs, which `make` has filled, or we do."""
    if not (MADE / ".done").exists():
        subprocess.run(["scripts/setup", "tools", "go", "dlv"], cwd=ROOT, check=True)
        subprocess.run(["scripts/setup", "go", str(MADE)], cwd=ROOT, check=True)
    return MADE


def delve() -> str:
    """One that reads what this machine's Go makes."""
    provided()
    found = shutil.which("dlv")
    assert found
    return found


def line(text: str) -> int:
    """Of the service's source."""
    lines = SOURCE.read_text().splitlines()
    return next(number for number, found in enumerate(lines, 1) if text in found)


BREAK = line("the tests break here")
SELDOM = line("return amount + 1")


class GoService:
    """One running instance."""

    def __init__(self, place: Path, program: str = "service") -> None:
        self.child = subprocess.Popen(
            [provided() / program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.child.stdout
        self.url = self.child.stdout.readline().split()[-1]
        self.place = place
        place.mkdir(mode=0o700)
        self.http = httpx.AsyncClient(base_url=self.url, timeout=LIMIT)
        self._begun: list[asyncio.Task[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.communicate()

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def process(self) -> Process:
        found = Process.read(self.child.pid)
        assert found, f"it ended with {self.child.poll()}"
        return found

    @property
    def target(self) -> Target:
        return Target(self.process, self.place)

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Something that goes on while a test does: to be awaited, and given up when the test fails before."""
        task = spawn(work, "begun by a test")
        self._begun.append(task)
        return task

    async def give_up(self) -> None:
        for task in self._begun:
            task.cancel()
        await asyncio.gather(*self._begun, return_exceptions=True)

    def address(self, symbol: str) -> int:
        """Of a function."""
        words = ["go", "tool", "nm", self.process.exe]
        names = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return next(int(found[0], 16) for found in map(str.split, names.splitlines()) if found[-1] == symbol)

    async def get(self, path: str) -> str:
        return (await self.http.get(path)).text

    async def price(self, amount: int = 2) -> int:
        return int(await self.get(f"/price?amount={amount}"))

    async def is_free(self) -> None:
        """Waits until it runs untraced and as it was built, with all goroutines at work."""
        await until(lambda: self.process.tracer == 0 and not stopped(self.pid))
        assert not traps.find(self.pid)
        await self.moves()
        assert await self.price() == 6
        assert await self.get("/never") == "2"
        assert self.child.poll() is None

    async def moves(self) -> None:
        """Waits until the goroutines at work have got on."""
        async with asyncio.timeout(LIMIT):
            ticks = await self._ticks()
            # Each look is a request, which takes longer than a tick.
            while await self._ticks() <= ticks:
                pass

    async def _ticks(self) -> int:
        return int((await self.get("/ticks")).split()[0])

    def debuggers(self) -> list[int]:
        """Pids of guards and delves of this service."""
        return [pid for pid, kind in helpers_of(self.pid).items() if kind in (GUARD, TRACER)]

    def guard(self) -> int:
        return self._only(GUARD)

    def delve(self) -> int:
        return self._only(TRACER)

    def _only(self, wanted: str) -> int:
        return next(pid for pid, kind in helpers_of(self.pid).items() if kind == wanted)


@asynccontextmanager
async def go_service(directory: Path, program: str = "service") -> AsyncIterator[GoService]:
    """Started before, gone after; whatever debugger is left after a test is a failure, and is ended."""
    with GoService(directory / "target", program) as running:
        async with running.http:
            try:
                yield running
            finally:
                await running.give_up()
        left = running.debuggers()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left

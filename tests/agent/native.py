"""A native service to debug: several threads under load, whose progress shows in a mapped file."""

import asyncio
import mmap
import os
import signal
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from agent.debuggers import Target
from agent.process import Process
from agent.rsp import Splitter, body, packet
from agent.streams import Stream
from agent.taskstat import stopped
from tests.drivers.helpers import GUARD, TRACER, helpers_of

SOURCE = """
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>
struct Shared { volatile long ticks, calls, answer; };
static Shared *shared;
volatile int knob = 7;
extern "C" {
__attribute__((noinline)) int seldom(int x) { int y = x + knob; shared->calls = shared->calls + 1; return y; }
__attribute__((noinline)) int never(int x) { return x + knob; }
}
static void *work(void *) {
  for (;;) {
    for (int i = 0; i < 20000; i++) shared->ticks = shared->ticks + 1;
    usleep(100);
  }
}
int main(int argc, char **argv) {
  int file = open(argv[1], O_RDWR);
  shared = (Shared *)mmap(0, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  pthread_t thread;
  for (int i = 0; i < 3; i++) pthread_create(&thread, 0, work, 0);
  for (;;) {
    shared->answer = argc > 9 ? never(1) : seldom(1);
    usleep(5000);
  }
}
"""
PATIENCE = 10.0


def build(directory: Path) -> Path:
    """The program, with debug information."""
    source, program = directory / "service.cc", directory / "service"
    source.write_text(SOURCE)
    subprocess.run(["g++", "-g", "-O0", "-pthread", "-o", program, source], check=True)
    return program


async def until(condition: Callable[[], Any]) -> None:
    """For what no event tells of: a look every few milliseconds, for PATIENCE seconds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.005)


class Service:
    """One running instance."""

    def __init__(self, program: Path, directory: Path) -> None:
        self.program, self.directory = program, directory
        counters = directory / "counters"
        counters.write_bytes(bytes(24))
        with counters.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 24)
        self.child = subprocess.Popen([program, counters])
        self.place = directory / "target"
        self.place.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.wait()
        self._map.close()

    @property
    def process(self) -> Process:
        found = Process.read(self.child.pid)
        assert found
        return found

    @property
    def target(self) -> Target:
        return Target(self.process, self.place)

    @property
    def answer(self) -> int:
        return self._counter(2)

    def _counter(self, index: int) -> int:
        return int(struct.unpack_from("q", self._map, index * 8)[0])

    async def started(self) -> None:
        await until(lambda: self._counter(0) and self._counter(1))

    def address(self, symbol: str) -> int:
        """Where a function starts in the running process."""
        table = subprocess.run(["nm", self.program], check=True, capture_output=True, text=True).stdout
        offset = next(int(line.split()[0], 16) for line in table.splitlines() if line.endswith(f" T {symbol}"))
        maps = Path(f"/proc/{self.child.pid}/maps").read_text().splitlines()
        return offset + next(int(line.partition("-")[0], 16) for line in maps if str(self.program) in line)

    def byte(self, address: int) -> bytes:
        with Path(f"/proc/{self.child.pid}/mem").open("rb") as memory:
            memory.seek(address)
            return memory.read(1)

    async def is_free(self, *intact: int) -> None:
        """Waits until it runs untraced, with all threads moving; at these addresses there must be no trap."""
        await until(lambda: self.process.tracer == 0)
        for address in intact:
            assert self.byte(address) != b"\xcc"
        await self.moves()
        assert not stopped(self.child.pid)
        assert self.child.poll() is None

    async def moves(self) -> None:
        """Waits until the main thread and the others have got on."""
        ticks, calls = self._counter(0), self._counter(1)
        await until(lambda: self._counter(0) > ticks + 2 and self._counter(1) > calls + 2)

    def debuggers(self) -> list[int]:
        """Pids of guards and gdbservers of this service."""
        return [pid for pid, kind in helpers_of(self.child.pid).items() if kind in (GUARD, TRACER)]

    def gdbserver(self) -> int:
        return self._only(TRACER)

    def guard(self) -> int:
        return self._only(GUARD)

    def _only(self, wanted: str) -> int:
        return next(pid for pid, kind in helpers_of(self.child.pid).items() if kind == wanted)


class Client:
    """A gdb that says exactly what a test wants."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._splitter = Splitter()
        self._tokens: list[bytes] = []

    async def token(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            while not self._tokens:
                data = await self.stream.reader.read(65536)
                if not data:
                    return b""
                self._tokens += self._splitter.feed(data)
        return self._tokens.pop(0)

    async def answer(self) -> bytes:
        """The body of the next packet; empty bytes when the stream has ended."""
        while (token := await self.token()) and token[:1] != b"$":
            pass
        return body(token)

    def say(self, text: bytes) -> None:
        self.stream.writer.write(packet(text))

    async def ask(self, text: bytes) -> bytes:
        self.say(text)
        return await self.answer()

    async def greet(self) -> None:
        assert b"multiprocess+" in await self.ask(b"qSupported:multiprocess+;swbreak+;vContSupported+")
        self.stream.writer.write(b"+")
        assert await self.ask(b"QStartNoAckMode") == b"OK"
        self.stream.writer.write(b"+")
        assert await self.ask(b"?")

    async def run_with_breakpoint(self, address: int) -> None:
        assert await self.ask(b"Z0,%x,1" % address) == b"OK"
        self.say(b"vCont;c")

    def interrupt(self) -> None:
        self.stream.writer.write(b"\x03")


@asynccontextmanager
async def service(program: Path, directory: Path) -> AsyncIterator[Service]:
    """Started before, gone after; whatever debugger is left after a test is a failure, and is ended."""
    with Service(program, directory) as running:
        await running.started()
        yield running
        left = running.debuggers()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left

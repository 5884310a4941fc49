"""Programs that are watched by what they say, and can be killed."""

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from demo.world import BIN, ROOT, World
from squash.tasks import spawn

PATIENCE = 60.0


class Program:
    """A process of its own group, whose output is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        self._seen: list[str] = []
        self._reading = spawn(self._read(), "output of a client")

    @classmethod
    async def start(cls, world: World, argv: Sequence[str | Path]) -> "Program":
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # What it leaves behind when it is killed goes with the world.
            env=world.environment({"TMPDIR": str(world.directory)}),
            cwd=ROOT,
            start_new_session=True,
        )
        return cls(process)

    async def until(self, pattern: str) -> "re.Match[str]":
        """The first line that has the pattern. Raises AssertionError with all the output."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while (line := await self._lines.get()) or not self._reading.done():
                    if match := re.search(pattern, line):
                        return match
        raise AssertionError(f"{pattern!r} never came; it said: {''.join(self._seen)}")

    def say(self, text: str) -> None:
        if self.process.stdin:
            self.process.stdin.write(text.encode())

    async def kill(self) -> None:
        """kill -9 of it and all that it has started, and gone when this returns. Idempotent."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        await self.process.wait()
        await asyncio.wait({self._reading})

    async def end(self, within: float) -> None:
        """Waits for its own end; kills it if that does not come."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), within)
        await self.kill()

    async def _read(self) -> None:
        if self.process.stdout:
            async for line in self.process.stdout:
                self._seen.append(line.decode(errors="replace"))
                self._lines.put_nowait(self._seen[-1])
        self._lines.put_nowait("")


async def local_end(world: World, url: str, name: str) -> tuple[Program, str]:
    """A `squashctl connect` and the address that it opened."""
    argv: list[str | Path] = [BIN / "squashctl", "connect", name, "--listen", "127.0.0.1:0", "--server", url]
    program = await Program.start(world, argv)
    return program, (await program.until(r"listening on +(127\.0\.0\.1:\d+)"))[1]

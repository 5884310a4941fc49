"""Debugger's clients as processes, which can be killed: a DAP client, gdb, and `squashctl connect` in between."""

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from demo.world import BIN, ROOT, World
from squash.model import DebugAttachment
from squash.tasks import spawn

PATIENCE = 60.0


class Program:
    """A process whose output is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._lines: asyncio.Queue[str] = asyncio.Queue()
        self._seen: list[str] = []
        self._reading = spawn(self._read(), "output of a client")

    @classmethod
    async def start(cls, world: World, argv: Sequence[str | Path], cwd: Path = ROOT) -> "Program":
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=world.environment(),
            cwd=cwd,
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
        """kill -9, and gone when this returns; one that is gone already is no matter."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
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


async def dap(world: World, address: str, file: Path, line: int, moment: str) -> Program:
    """A DAP client that has got as far as the moment: `connected`, `ready`, `stopped`."""
    argv: list[str | Path] = [sys.executable, "-m", "tests.soak.dap_client", address, file, str(line), moment]
    program = await Program.start(world, argv)
    await program.until(f"^{moment}$")
    return program


async def gdb(world: World, address: str, binary: Path, function: str, moment: str) -> Program:
    """gdb, likewise; `connected` and `ready` are left to be seen by the attachment's phase."""
    argv = ["gdb", "-nx", "-q", "-ex", "set confirm off", "-ex", f"target remote {address.removeprefix('unix:')}"]
    if moment != "connected":
        argv += ["-ex", f"break {function}", "-ex", "continue"]
    # A gdb that loses its connection at a bad moment may dump core: among what is cleaned up.
    program = await Program.start(world, [*argv, binary], cwd=world.directory)
    if moment == "stopped":
        await program.until(r"hit Breakpoint 1|Breakpoint 1, ")
    return program


def address_of(attachment: DebugAttachment) -> str:
    return attachment.status.debug_server_address or ""

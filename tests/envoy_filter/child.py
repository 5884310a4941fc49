"""A program that a test starts, and that is gone when the test is over."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

BIN = Path(sys.executable).parent
"""Where the programs of this environment lie."""


class Child:
    """Its stderr goes to the file `log`."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, argv: Sequence[object], log: Path, env: Mapping[str, str] | None = None) -> "Child":
        environ = {key: value for key, value in os.environ.items() if not key.startswith("SQUASH_")}
        with log.open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *map(str, argv),
                env=environ | dict(env or {}),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
            )
        return cls(process, log)

    async def ready(self) -> str:
        """The URL of the line `PROGRAM ready on URL`."""
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            line = (await self._process.stdout.readline()).decode()
        assert " ready on http://" in line, f"{line!r}\n{self.log}"
        return line.split()[-1]

    @property
    def stdout(self) -> asyncio.StreamReader | None:
        return self._process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def rss(self) -> int:
        """Bytes of memory in use."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stops it when it still runs, the hard way after 20 s; its exit status."""
        if self._process.returncode is None:
            self.send(number)
            self.send(signal.SIGCONT)
        try:
            async with asyncio.timeout(20):
                status = await self._process.wait()
        except TimeoutError:
            self._process.kill()
            status = await self._process.wait()
        # Reads the rest, so that the pipe is closed with the process.
        if self._process.stdout is not None:
            await self._process.stdout.read()
        return status

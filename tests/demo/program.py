"""`python -m demo` as its users run it, and whatever it starts, seen from outside."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.world import ROOT
from squash import procfs
from tests.eventually import eventually

PATIENCE = 90.0
"""Seconds for whatever the demo does, on a slow and busy machine."""


class Demo:
    """Its temporary directory is its own, and tells what belongs to it: processes inherit TMPDIR."""

    def __init__(self, directory: Path, *, columns: int = 0, **environment: str) -> None:
        """On a terminal of that many columns, or into a pipe."""
        self.directory = directory
        dropped = ("COLUMNS", "LINES", "KEEP", "PORT", "NO_COLOR", "FORCE_COLOR")
        own = {k: v for k, v in os.environ.items() if not k.startswith("SQUASH") and k not in dropped}
        own |= {"TMPDIR": str(directory), "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"} | environment
        self._reading, writing = pty.openpty() if columns else os.pipe()
        if columns:
            fcntl.ioctl(writing, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "demo"],
            cwd=ROOT,
            env=own,
            stdin=subprocess.DEVNULL,
            stdout=writing,
            stderr=writing,
            process_group=0,
        )
        os.close(writing)
        self.said = ""

    def until(self, text: str) -> str:
        """Reads what it says until that has come; all it has said."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.said:
            more = self._read(deadline)
            assert more, f"{text!r} never came:\n{self.said}"
        return self.said

    def end(self) -> int:
        """Reads the rest; the exit status."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self.process.wait(PATIENCE)

    def interrupt(self) -> None:
        """Ctrl-C, as a terminal gives it: to everything in the foreground."""
        os.killpg(self.process.pid, signal.SIGINT)

    def belongings(self) -> list[int]:
        """The processes of this demo, itself included."""
        return [pid for pid in procfs.pids() if (procfs.environ(pid) or {}).get("TMPDIR") == str(self.directory)]

    def runs(self, program: str) -> bool:
        """Whether one of them is called that."""
        stats = (procfs.stat(pid) for pid in self.belongings())
        return any(stat and stat.comm == program for stat in stats)

    def when(self, condition: Callable[[], bool]) -> None:
        assert eventually(condition, limit=PATIENCE), self.said

    def left(self) -> tuple[list[str], list[Path]]:
        """Processes and files that are left."""
        stats = (procfs.stat(pid) for pid in self.belongings())
        return [f"{stat.pid} {stat.comm}" for stat in stats if stat], list(self.directory.iterdir())

    def close(self) -> None:
        os.close(self._reading)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.belongings():
            os.kill(pid, signal.SIGKILL)

    def _read(self, deadline: float) -> bytes:
        """What comes next; nothing at the end."""
        assert select.select([self._reading], [], [], max(0.0, deadline - time.monotonic()))[0], self.said
        try:
            found = os.read(self._reading, 65536)
        except OSError:  # of a terminal whose other end is closed (EIO)
            found = b""
        self.said += found.decode(errors="replace")
        return found


@contextmanager
def demo(directory: Path, *, columns: int = 0, **environment: str) -> Iterator[Demo]:
    found = Demo(directory, columns=columns, **environment)
    try:
        yield found
    finally:
        found.close()


def await_ends(pids: list[int]) -> None:
    """Until these processes are gone."""
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            assert select.select([handle], [], [], PATIENCE)[0], f"process {pid} does not end"
        finally:
            os.close(handle)

"""A terminal with a program in it, as a person sits at it."""

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE = 60.0
"""Seconds until what is waited for must have come, on a busy machine."""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


class Terminal:
    """A context manager; the program has ended after it."""

    def __init__(self, argv: Sequence[str | Path], env: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            argv,
            env={**env, "TERM": "xterm", "NO_COLOR": "1"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 - this process has no other thread that holds a lock
        )
        os.close(theirs)
        self.seen = ""
        """Everything that was shown, without what moves the cursor or colours."""
        self._read = 0

    def until(self, text: str) -> str:
        """What was shown since the last time, up to and with the text."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.seen.find(text, self._read)) < 0:
            assert self._more(deadline), f"{text!r} never came:\n{self.seen}"
        begun, self._read = self._read, found + len(text)
        return self.seen[begun : self._read]

    def enter(self, line: str) -> None:
        """What a person types, and Return."""
        os.write(self._ours, f"{line}\n".encode())

    def ctrl_c(self) -> None:
        """To everything in the foreground of the terminal."""
        os.write(self._ours, b"\x03")

    def close(self) -> None:
        """As when its window is closed, or the line to it is cut."""
        os.close(self._ours)
        self._ours = -1

    def end(self) -> int:
        """The exit status, when the program has ended and everything is read."""
        deadline = time.monotonic() + PATIENCE
        while self._more(deadline):
            pass
        return self.process.wait(PATIENCE)

    def _more(self, deadline: float) -> bool:
        left = max(0.0, deadline - time.monotonic())
        if not select.select([self._ours], [], [], left)[0]:
            return False
        try:
            data = os.read(self._ours, 65_536)
        except OSError:
            # Linux's way to tell that nobody has the other end any more.
            return False
        self.seen += _CONTROL.sub("", data.decode(errors="replace"))
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self._ours >= 0:
            self.close()


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)

"""A process between the agent and one delve, that outlives the agent to free the debugged process.

delve's own leave, when its client hangs up or at SIGINT, ends a process whose threads run into a breakpoint just then.
So the guard has the client's connection too, which does not end before delve, and takes the process from it
(agent.parting); from a delve that somebody else has killed, in the same way. Should the guard itself be killed, the
agent does so at once. Should both be, the connection ends, and delve leaves.

Started by agent.delve_start, with standard input a line to the agent, whose end means: leave. Says on standard error
`attached PID`, with delve's pid, or why not, and at the end what went wrong if something did. Imports the standard
library only.
"""

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from agent import rescue, stragglers
from agent.parting import Parting
from agent.rescue import ORDERLY, REFUSED, RESCUED, STUCK, Notes, Who, outlive, say
from agent.within import within

ATTACH = 5.0
"""Seconds for delve to trace the process and listen, besides the time that it takes to read the program."""
READ = 5e6
"""Bytes of a program's file that delve reads in a second at least, on a slow and busy machine."""
ANSWER = 1.0
"""Seconds for the machine that has the program's file to tell how large that is."""
LOOK = 2
"""Milliseconds between two looks whether it does: nothing tells."""
LIMIT = 4.0
"""Seconds for delve to end."""


class LostError(Exception):
    """delve is gone, or does not do what it should."""


class Guard:
    def __init__(self, pid: int, path: Path, delve: int, said: int) -> None:
        notes = Notes.load(path)
        if notes is None:
            words = os.read(said, 4096).decode(errors="replace").strip()
            raise LostError(words or f"there is nobody to debug process {pid}")
        self._path = path
        self._notes = notes
        self._parting = Parting(notes, path)
        self._woken = _signals()
        self._handle = os.pidfd_open(delve)
        self._delve = delve
        self._said = said
        self._words = b""
        self._line = socket.socket(fileno=os.dup(0))
        self._connections: list[int] = []
        """The client's, held until this process ends."""
        self._leaving = False
        self._over = False
        self._status: int | None = None

    def run(self) -> int:
        """The exit status."""
        words, attached = "", False
        try:
            self._await_attach(patience(self._notes.target.pid))
            attached = True
            say(f"attached {self._delve}")
            self._await_end()
        except LostError as error:
            words = str(error)
            self._kill()
        orderly = not words and self._status == 0 and not self._parting.restored
        # Also after an orderly end: its threads were sent stop signals, which some may not have taken yet.
        if not self._parting.settle(LIMIT):
            say(f"process {self._notes.target.pid} could not be freed: {words}")
            return STUCK
        self._path.unlink(missing_ok=True)
        if not attached:
            say(words)
            return REFUSED
        if orderly or (self._leaving and not words):
            return ORDERLY
        say(words or f"delve ended with {self._status}: {self._last_words()}")
        return RESCUED

    # -- phases -----------------------------------------------------------------------------------------------------

    def _await_attach(self, limit: float) -> None:
        """Until delve listens and traces the process, for `limit` seconds. Raises LostError."""
        target, deadline = self._notes.target.pid, time.monotonic() + limit
        while True:
            self._step(LOOK)
            tid = rescue.tracer(target)
            if b"listening at" in self._words and tid and Path(f"/proc/{self._delve}/task/{tid}").exists():
                break
            if self._over or not self._notes.target.alive:
                raise LostError(self._last_words() or "delve ended without a word")
            if self._leaving:
                raise LostError("nobody wants it any more")
            if time.monotonic() > deadline:
                raise LostError(f"delve did not attach within {limit:.0f} s: {self._last_words()}")
        # Where the kernel forbids it, the code is put right a moment after the end instead of before.
        with contextlib.suppress(OSError):
            self._parting.prepare()

    def _await_end(self) -> None:
        """Until delve has ended. Raises LostError when it has to be asked in vain."""
        while not (self._over or self._leaving):
            self._step(None)
        if self._over:
            return
        if stragglers.KNOWN and self._parting.prepared:
            self._kill()
        else:
            self._signal(signal.SIGINT)
        deadline = time.monotonic() + LIMIT
        while not self._over:
            self._step(100)
            if time.monotonic() > deadline:
                raise LostError("delve does not leave")

    def _kill(self) -> None:
        """Ends delve, which is given a moment before to see threads that have trapped already."""
        if self._over:
            return
        with contextlib.suppress(OSError):
            self._parting.prepare()
        self._parting.clear(self._pass)
        self._signal(signal.SIGKILL)
        deadline = time.monotonic() + LIMIT
        while not self._over and time.monotonic() < deadline:
            self._step(20)

    def _pass(self, seconds: float) -> bool:
        """Goes on watching meanwhile; whether delve is there still."""
        deadline = time.monotonic() + seconds
        while not self._over and (left := deadline - time.monotonic()) > 0:
            self._step(int(left * 1000) + 1)
        return not self._over

    # -- what happens -----------------------------------------------------------------------------------------------

    def _step(self, patience: int | None) -> None:
        """Waits for something to happen, `patience` milliseconds at most, and takes note of it."""
        poll = select.poll()
        for descriptor in (self._said, self._handle, self._woken, *(() if self._leaving else (0,))):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll(patience)}
        if self._woken in ready:
            os.read(self._woken, 4096)
        self._parting.attend()
        if self._said in ready:
            self._hear()
        if 0 in ready:
            self._listen()
        if self._handle in ready:
            self._reap()

    def _listen(self) -> None:
        """To the agent: the client's connection comes by its line, whose end means: leave."""
        said, connections, _, _ = socket.recv_fds(self._line, 16, 1)
        self._connections += connections
        self._leaving = not said

    def _hear(self) -> None:
        data = os.read(self._said, 65_536)
        if not data:
            os.close(self._said)
            self._said = -1
        self._words = (self._words + data)[-4096:]

    def _reap(self) -> None:
        self._over = True
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(self._delve, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        if self._status is None:
            self._status = self._parting.status  # it was the same thread, whose end is told once

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def _last_words(self) -> str:
        lines = self._words.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def patience(pid: int) -> float:
    """Seconds that delve may take to attach to this process."""

    def size() -> Iterator[str]:
        with contextlib.suppress(OSError):
            yield str(Path(f"/proc/{pid}/exe").stat().st_size)

    words, _ = within(ANSWER, size)
    return ATTACH + sum(map(int, words)) / READ


def _signals() -> int:
    """A descriptor that can be read after each SIGCHLD."""
    heard, told = os.pipe()
    for descriptor in (heard, told):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return heard


def succeed(path: Path, limit: float) -> bool:
    """Ends what a killed guard left, by its notes; whether the process is free. Blocks, about `limit` seconds."""
    notes = Notes.load(path)
    if notes is None:
        return True
    parting, delve = Parting(notes, path), notes.server
    # Where nobody can take the process from it, it has had a SIGINT from the kernel.
    if delve and delve.there and not rescue.reap(delve.pid, 0.0 if stragglers.KNOWN else limit):
        with contextlib.suppress(OSError):
            parting.prepare()
        _end(delve, parting, limit)
    free = parting.settle(limit)
    if free:
        path.unlink(missing_ok=True)
    return free


def _end(delve: Who, parting: Parting, limit: float) -> None:
    def wait(seconds: float) -> bool:
        parting.attend()
        time.sleep(seconds)  # nothing tells who is not its parent
        return delve.alive

    parting.clear(wait)
    if delve.there:
        with contextlib.suppress(ProcessLookupError):
            os.kill(delve.pid, signal.SIGKILL)
    deadline = time.monotonic() + limit
    while (delve.alive or not parting.over) and time.monotonic() < deadline:
        wait(LOOK / 1000)


def look_after(pid: int, path: Path, delve: int, said: int) -> None:
    """Ends this process when the process of that pid is free of that delve. `said`: a descriptor of what delve says."""
    outlive(said)
    try:
        guard = Guard(pid, path, delve, said)
    except (LostError, OSError) as error:
        with contextlib.suppress(ProcessLookupError):
            os.kill(delve, signal.SIGTERM)
        say(str(error))
        sys.exit(REFUSED)
    sys.exit(guard.run())

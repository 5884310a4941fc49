"""A process between the agent and one delve, that outlives the agent to free the debugged process.

delve takes its leave in good order when its client hangs up, at SIGINT and at SIGTERM: it halts the process, removes
its breakpoints and detaches. Killed, it leaves breakpoints behind, of which the process dies. So its thread that traces
is held back at its end (agent.tracee) until the code is again what stands in the executable (agent.traps). Should the
guard itself be killed, the kernel sends delve the SIGINT.

Started by agent.delve_start, with standard input a line to the agent, whose end means: leave. Says on standard error
`attached PID`, with delve's pid, or why not, and at the end what went wrong if something did. Imports the standard
library only.
"""

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

from agent import rescue, traps
from agent.rescue import ORDERLY, REFUSED, RESCUED, STUCK, Notes, outlive, say
from agent.tracee import Tracee

ATTACH = 5.0
"""Seconds for delve to trace the process and listen, besides the time that it takes to read the program."""
READ = 5e6
"""Bytes of a program's file that delve reads in a second at least, on a slow and busy machine."""
LOOK = 2
"""Milliseconds between two looks whether it does: nothing tells."""
HINT = 1.0
"""Seconds for delve to notice that its client has hung up, before it is sent SIGINT."""
LIMIT = 4.0
"""Seconds for delve to leave, before it is killed."""


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
        self._woken = _signals()
        self._handle = os.pidfd_open(delve)
        self._delve = delve
        self._said = said
        self._words = b""
        self._tracee: Tracee | None = None
        self._leaving = False
        self._over = False
        self._status: int | None = None
        self._restored = False

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
        free = self._look_after()
        if not free:
            say(f"process {self._notes.target.pid} could not be freed: {words}")
            return STUCK
        self._path.unlink(missing_ok=True)
        if not attached:
            say(words)
            return REFUSED
        if self._status == 0 and not self._restored and not words:
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
            self._tracee = Tracee(tid, self._restore)

    def _await_end(self) -> None:
        """Until delve has ended. Raises LostError when it has to be asked in vain."""
        since = asked = 0.0
        while not self._over:
            self._step(100 if self._leaving else None)
            if not self._leaving:
                continue
            since = since or time.monotonic()
            if not asked and time.monotonic() > since + HINT:
                asked = time.monotonic()
                self._signal(signal.SIGINT)
            if time.monotonic() > since + LIMIT:
                raise LostError("delve does not leave")

    def _kill(self) -> None:
        """Ends a delve that does not end by itself; it is given a moment to see threads that have trapped already."""
        if self._over:
            return
        self._restore()
        time.sleep(rescue.COLLECT)
        self._signal(signal.SIGKILL)
        deadline = time.monotonic() + LIMIT
        while not self._over and time.monotonic() < deadline:
            self._step(20)

    def _look_after(self) -> bool:
        """Whether the process runs as it did before, which is seen to."""
        self._restore()
        orderly = self._status == 0 and not self._restored
        return rescue.settle(self._notes, LIMIT) if orderly else rescue.rescue(self._notes)

    def _restore(self) -> None:
        """Writes back what stands in the executable, wherever there is a breakpoint."""
        found = _breakpoints(self._notes)
        if found:
            self._restored = True
            rescue.restore(self._notes.target, found)

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
        if self._tracee:
            self._tracee.attend()
        if self._said in ready:
            self._hear()
        if 0 in ready and not os.read(0, 4096):
            self._leaving = True
        if self._handle in ready:
            self._reap()

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
        if self._status is None and self._tracee:
            self._status = self._tracee.status  # it was the same thread, whose end is told once

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def _last_words(self) -> str:
        lines = self._words.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def patience(pid: int) -> float:
    """Seconds that delve may take to attach to this process."""
    try:
        return ATTACH + Path(f"/proc/{pid}/exe").stat().st_size / READ
    except OSError:
        return ATTACH


def _breakpoints(notes: Notes) -> dict[int, bytes]:
    """What stood at each of delve's breakpoints: of all that are found, those that were not there before it."""
    return {at: text for at, text in traps.find(notes.target.pid).items() if at not in notes.others}


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
    if notes.server and notes.server.alive:
        # It has had its SIGINT from the kernel.
        if not rescue.reap(notes.server.pid, limit):
            notes = notes._replace(originals=_breakpoints(notes))
        else:
            notes = notes._replace(server=None)
    free = rescue.rescue(notes._replace(originals=notes.originals or _breakpoints(notes)))
    if free:
        rescue.restore(notes.target, _breakpoints(notes))
        path.unlink(missing_ok=True)
    return free


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

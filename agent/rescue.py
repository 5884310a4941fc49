"""Freeing a process from a gdbserver that cannot be talked to any more, from notes made beforehand.

Killing gdbserver leaves its trap instructions in the process, which dies of the next one. So the bytes are put back
first, through /proc/PID/mem (proc_pid_mem(5)). Imports the standard library only: the guard runs without site-packages.
"""

import contextlib
import errno
import json
import os
import select
import signal
import sys
import time
from typing import NamedTuple

from agent.rsp import Point
from agent.taskstat import START_TIME, STATE, fields, states, stopped

TRAPS = {1: b"\xcc", 4: b"\x00\x00\x20\xd4"}
"""What gdbserver writes as a breakpoint, by its size in bytes: int3 on x86, brk #0 on aarch64."""
COLLECT = 0.02
"""Seconds for gdbserver to see the threads that trapped just before the bytes were restored."""


ORDERLY, RESCUED, REFUSED, STUCK = 0, 3, 4, 5
"""Exit status of a guard: detached in good order; freed without the debugger's help; never attached; perhaps not free.
"""


StrPath = str | os.PathLike[str]


class Who(NamedTuple):
    """A process; `start_time` (clock ticks since boot) tells it from a later one of that pid."""

    pid: int
    start_time: int

    @classmethod
    def of(cls, pid: int) -> "Who | None":
        found = fields(f"/proc/{pid}/stat")
        return cls(pid, int(found[START_TIME])) if found and found[STATE] not in "ZX" else None

    @property
    def alive(self) -> bool:
        return Who.of(self.pid) == self

    @property
    def there(self) -> bool:
        """Alive, or ended and not waited for yet. The number may be somebody else's otherwise, or a thread's."""
        found = fields(f"/proc/{self.pid}/stat")
        return bool(found) and int(found[START_TIME]) == self.start_time


class Notes(NamedTuple):
    """All that is needed to free `target`."""

    target: Who
    guard: Who
    stopped: bool
    """The target was stopped (state T) before we came, and may be afterwards."""
    server: Who | None = None
    """The gdbserver, once there is one."""
    originals: dict[int, bytes] = {}  # noqa: RUF012 - never changed, only replaced
    """What stood at each breakpoint's address."""
    multiprocess: bool = False
    """The protocol's extension of that name was agreed."""
    points: tuple[Point, ...] = ()
    """Breakpoints and watchpoints that may be inserted."""
    others: tuple[int, ...] = ()
    """Where there were traps before the debugger came: somebody else's, like those of the kernel's uprobes."""

    def save(self, path: StrPath) -> None:
        """Atomically. Does nothing when the directory is gone: then nobody looks for notes any more."""
        originals = {hex(address): original.hex() for address, original in self.originals.items()}
        fresh = beside(path, f"{os.path.basename(path)}.new")
        with contextlib.suppress(FileNotFoundError):
            with open(fresh, "w") as file:
                json.dump(self._replace(originals=originals)._asdict(), file)  # type: ignore[arg-type]
            os.replace(fresh, path)

    @classmethod
    def load(cls, path: StrPath) -> "Notes | None":
        """None when there are none that can be read."""
        try:
            with open(path) as file:
                raw = json.load(file)
            return cls(
                target=Who(*raw["target"]),
                guard=Who(*raw["guard"]),
                stopped=bool(raw["stopped"]),
                server=Who(*raw["server"]) if raw["server"] else None,
                originals={int(at, 16): bytes.fromhex(text) for at, text in raw["originals"].items()},
                multiprocess=bool(raw["multiprocess"]),
                points=tuple(Point(*point) for point in raw["points"]),
                others=tuple(int(at) for at in raw.get("others", ())),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def outlive(keep: int = 2) -> None:
    """To be called by a guard before anything else: what ends a service must not come between it and a release.

    Descriptors beyond the usual ones are closed, but for `keep`.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # What the agent may have let through must not live on in the debugger, where it would hide the end of a pipe.
    os.closerange(3, keep)
    os.closerange(keep + 1, os.sysconf("SC_OPEN_MAX"))


def say(words: str) -> None:
    """To the agent, on standard error; nobody may be there to hear."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()


def rescue(notes: Notes, limit: float = 2.0) -> bool:
    """Ends gdbserver; True when the process runs untraced, or is gone. Blocks up to about `limit` seconds."""
    if notes.server and notes.server.alive:
        restore(notes.target, notes.originals)
        time.sleep(COLLECT)
        if notes.server.alive:
            with contextlib.suppress(OSError):
                os.kill(notes.server.pid, signal.SIGKILL)
    if notes.server and notes.server.there:
        reap(notes.server.pid, limit)
    # Again: gdbserver puts a breakpoint back after it has stepped a thread over it.
    restore(notes.target, notes.originals)
    if not notes.stopped and notes.target.alive:
        # A stop signal that gdbserver had not yet seen would stop the process after we have looked.
        with contextlib.suppress(OSError):
            os.kill(notes.target.pid, signal.SIGCONT)
    return settle(notes, limit)


def original(pid: int, address: int, size: int) -> bytes | None:
    """What stands there before a breakpoint is written; None when there will be nothing to put back."""
    if size not in TRAPS or address >= 1 << 63:
        return None
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = os.pread(memory, size, address)
        finally:
            os.close(memory)
    except OSError:
        return None
    return found if len(found) == size and found != TRAPS[size] else None


def restore(target: Who, originals: dict[int, bytes]) -> None:
    """Puts the bytes back where a trap stands now; elsewhere the memory has changed hands and is left alone."""
    if not originals or not target.alive:
        return
    with contextlib.suppress(OSError):
        memory = os.open(f"/proc/{target.pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            for address, text in originals.items():
                with contextlib.suppress(OSError):
                    if os.pread(memory, len(text), address) == TRAPS.get(len(text)):
                        os.pwrite(memory, text, address)
        finally:
            os.close(memory)


def reap(pid: int, limit: float) -> bool:
    """Waits for a process to end, be it our child or not; whether it did."""
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        # The number of a thread by now: EINVAL says a kernel before 6.15, ENOENT a later one.
        if error.errno in (errno.ESRCH, errno.EINVAL, errno.ENOENT):
            return True
        raise
    try:
        ended = bool(select.select([handle], [], [], limit)[0])
    finally:
        os.close(handle)
    if ended:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return ended


def settle(notes: Notes, limit: float) -> bool:
    """Sees that the target is neither traced nor stopped; True when it is so, or the target is gone."""
    target, server = notes.target, notes.server.pid if notes.server else 0
    deadline = time.monotonic() + limit
    while target.alive:
        # Nothing tells when a process is not traced any more; it is a matter of microseconds.
        traced = server and tracer(target.pid) == server
        halted = not notes.stopped and not traced and stopped(target.pid)
        if not traced and not halted:
            return True
        if time.monotonic() > deadline:
            return False
        if halted:
            with contextlib.suppress(OSError):
                os.kill(target.pid, signal.SIGCONT)
        time.sleep(0.001)
    return True


def beside(path: StrPath, name: str) -> str:
    """The path of that name in the same directory."""
    return os.path.join(os.path.dirname(path), name)


def halted(pid: int) -> bool:
    """Whether a tracer has stopped every thread (state t)."""
    return all(state in "tZX" for state in states(pid))


def tracer(pid: int) -> int:
    """Pid of whoever traces the process, 0 for nobody or when it is gone."""
    try:
        with open(f"/proc/{pid}/status", errors="replace") as file:
            text = file.read()
    except OSError:
        return 0
    return int(text.partition("TracerPid:")[2].split(None, 1)[0])

"""Reads the facts from /proc. Looks only: no signal is sent, nothing is attached to, nothing is made."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from agent import homes
from agent.denied import YAMA, held
from agent.elf import NotElfError
from agent.libc import libc
from agent.preflight import memory
from agent.preflight.facts import AgentFacts, Facts, Home, Seccomp, TargetFacts
from agent.preflight.needs import Needs
from agent.process import Process
from agent.program import Program
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason

_FIRST_USERS, _FIRST_PIDS = "user:[4026531837]", "pid:[4026531836]"
"""The kernel's own namespaces of these kinds have the same numbers on every machine (linux/proc_ns.h)."""
_PLACE = Needs(directory=True)
_NS_GET_PARENT = 0xB702
"""ioctl_ns(2)."""
_PROBED = {"ptrace": (101, 117), "process_vm_readv": (310, 270)}
"""System calls that debuggers make, with their numbers on x86-64 and aarch64."""
_PROBE = """
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
# No process has such a pid: whatever is let through finds nobody.
print(libc.syscall(int(sys.argv[1]), 16, 0x7FFFFFFF, 0, 0, 0, 0), ctypes.get_errno())
"""


def agent() -> AgentFacts:
    """What this very process may do."""
    own = procfs.status(os.getpid()) or {}
    seccomp = _seccomp(own)
    return AgentFacts(
        uid=os.geteuid(),
        capabilities=held(),
        machine=os.uname().machine,
        seccomp=seccomp,
        blocked=_blocked() if seccomp else frozenset(),
        ptrace_scope=_scope(YAMA),
        own_pids=procfs.namespace(os.getpid(), "pid") not in ("", _FIRST_PIDS),
        own_users=procfs.namespace(os.getpid(), "user") not in ("", _FIRST_USERS),
    )


def facts(process: Process, of: AgentFacts | None = None, needs: Needs = _PLACE) -> Facts:
    """What matters for a debugger with these needs. Raises SquashError when the process is gone.

    Blocks for a few milliseconds.
    """
    return Facts(of or agent(), target(process, needs))


def target(process: Process, needs: Needs = _PLACE) -> TargetFacts:
    """Raises SquashError when the process is gone."""
    pid = process.pid
    status, stat = procfs.status(pid), procfs.stat(pid)
    if status is None or stat is None or not process.alive:
        raise SquashError(Reason.PROCESS_GONE, f"process {pid} is gone")
    tracer = int(status.get("TracerPid", "0"))
    by = procfs.stat(tracer) if tracer else None
    looks = _may_look(process)
    other_files = looks and not homes.same_root(process)
    users = procfs.namespace(pid, "user")
    return TargetFacts(
        process=process,
        state=stat.state,
        tracer=tracer,
        tracer_name=by.comm if by else "",
        seccomp=_seccomp(status),
        may_look=looks,
        may_trace=_may_trace(pid),
        may_signal=_may_signal(pid),
        other_users=users not in ("", procfs.namespace(os.getpid(), "user")),
        users_below=_is_below(pid),
        uid_inside=uid_inside(process.uid, _id_map(pid)),
        other_files=other_files,
        other_network=procfs.namespace(pid, "net") not in ("", procfs.namespace(os.getpid(), "net")),
        homes=tuple(_homes(process, needs.files)) if other_files and needs.directory else (),
        program=_program(pid),
        libc=libc(process),
        memory=memory.of_process(pid),
    )


def _homes(process: Process, files: int) -> Iterator[Home]:
    """Up to the first that can be used: no other is gone to, and it may be on a machine that does not answer."""
    for path in homes.HOMES:
        room = homes.room(process, path)
        yield Home(path, room.obstacle, room.free, room.executable)
        if not room.lacks(files):
            return


def _seccomp(status: dict[str, str]) -> Seccomp:
    try:
        return Seccomp(int(status.get("Seccomp", "0")))
    except ValueError:
        return Seccomp.FILTER


@cache
def _blocked() -> frozenset[str]:
    """Tried by a process of its own, for a filter may kill who asks. A filter stays for good."""
    place = {"x86_64": 0, "aarch64": 1}.get(os.uname().machine)
    if place is None:
        return frozenset()
    return frozenset(name for name, numbers in _PROBED.items() if not _is_let_through(numbers[place]))


def _is_let_through(number: int) -> bool:
    """With nobody at the other end the kernel says ESRCH; a filter says what it was told to, EPERM as a rule."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _PROBE, str(number)], capture_output=True, text=True, check=False
    )
    return done.returncode == 0 and done.stdout.split()[-1:] in ([str(errno.ESRCH)], ["0"])


def _scope(yama: Path) -> int | None:
    try:
        return int(yama.read_text())
    except (OSError, ValueError):
        return None


def _may_look(process: Process) -> bool:
    """Following the link takes the right to read what is the process's own (PTRACE_MODE_READ of ptrace(2))."""
    try:
        (process.root / ".").stat()
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def _may_trace(pid: int) -> bool:
    """Opening its memory asks the kernel the same question as attaching does (proc_pid_mem(5)), and does nothing."""
    try:
        os.close(os.open(procfs.PROC / str(pid) / "mem", os.O_RDWR | os.O_CLOEXEC))
    except PermissionError:
        return False
    except OSError:
        return True
    return True


def _may_signal(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return False
    except ProcessLookupError:
        return True
    return True


def _is_below(pid: int) -> bool:
    """Whether our user namespace is the process's, or one above it. Walks up from the process's."""
    try:
        wanted = Path("/proc/self/ns/user").stat().st_ino
        place = os.open(procfs.PROC / str(pid) / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True  # who may not look at it learns so by `may_look`
    try:
        while os.fstat(place).st_ino != wanted:
            try:
                above = fcntl.ioctl(place, _NS_GET_PARENT)
            except OSError:
                return False
            os.close(place)
            place = above
        return True
    finally:
        os.close(place)


def _id_map(pid: int) -> list[tuple[int, int, int]]:
    """First id inside, first id as we count, and how many, of each range (user_namespaces(7))."""
    try:
        lines = (procfs.PROC / str(pid) / "uid_map").read_text().splitlines()
    except OSError:
        return []
    rows = (line.split() for line in lines)
    return [(int(row[0]), int(row[1]), int(row[2])) for row in rows if len(row) == 3]


def uid_inside(uid: int, ranges: list[tuple[int, int, int]]) -> int | None:
    """The uid as the namespace with these ranges counts."""
    found = (inside + uid - ours for inside, ours, number in ranges if ours <= uid < ours + number)
    return next(found, None)


def _program(pid: int) -> Program | None:
    try:
        return Program.read(procfs.PROC / str(pid) / "exe")
    except (NotElfError, OSError):
        return None

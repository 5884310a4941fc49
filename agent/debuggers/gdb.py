"""gdbserver for native programs, over a pipe and never a port, with a guard between it and us (agent.guard).

It is lazy: the process runs untraced until a client comes, because gdbserver stops what it attaches to.
"""

import asyncio
import ctypes
import errno
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from agent import farewell, rescue
from agent.debuggers import Target, attempt
from agent.denied import YAMA, denied
from agent.guarded import GUARD, NOTES, Guarded, await_guard
from agent.libc import own_glibc
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding, ok, warning
from agent.preflight.needs import Needs
from agent.process import Process
from squash import procfs
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason

FAREWELL = 3.0
"""Seconds for taking leave of a gdbserver whose guard was killed, before it is killed too."""

_SHELLS = re.compile(r"(ba|da|z|k|c|tc|fi|a)?sh|busybox|tini|dumb-init|env|sudo|timeout")
_INTERPRETERS = re.compile(r"(python|pypy|ruby|perl|php|lua|node|deno|bun|java|beam|dotnet|mono|tclsh)[-\d.\w]*")
_PTRACE_SEIZE = 0x4206


class Gdb:
    name = "gdb"
    protocol = "gdb"

    def __init__(self, gdbserver: str = "gdbserver") -> None:
        """`gdbserver`: the program, looked up on PATH when it is a bare name."""
        self._gdbserver = gdbserver
        # Of these machines the guard knows what a breakpoint looks like.
        self.needs = Needs(
            traces=True,
            symbols=True,
            libraries=True,
            programs=(gdbserver,),
            machines=frozenset({"x86_64", "aarch64"}),
        )

    def examine(self, facts: Facts) -> Iterator[Finding]:
        """gdbserver knows threads by a library that must be of the very version of the process's C library."""
        own, libc = own_glibc(), facts.target.libc
        if libc.name == "musl" or (libc.name and libc.version != own):
            yield ok("libc", f"{libc}, and the agent has glibc {own}: thread-local variables cannot be read")
        if facts.target.program and facts.target.program.go:
            yield warning("language", "gdb knows little of Go's goroutines and types", "use the debugger delve")

    def claim(self, process: Process) -> float:
        try:
            with (procfs.PROC / str(process.pid) / "exe").open("rb") as file:
                head = file.read(4096)
        except PermissionError:
            return 0.05
        except OSError:
            return -1  # a kernel thread, or gone
        if head[:4] != b"\x7fELF":
            return -1
        name = PurePath(process.exe.removesuffix(" (deleted)")).name
        if _SHELLS.fullmatch(name):
            return 0.01
        if _INTERPRETERS.fullmatch(name):
            return 0.1
        # Go's linker puts its build id, a note of the owner "Go", before the code.
        return 0.2 if b"\x04\0\0\0Go\0\0" in head else 0.5

    async def attach(self, target: Target) -> "GdbServer":
        """Tries whether gdbserver could, without stopping the process: that waits for the first client."""
        started = time.monotonic()
        failure: SquashError | None = None
        try:
            program = shutil.which(self._gdbserver)
            if program is None:
                raise SquashError(Reason.DEBUGGER_MISSING, f"{self._gdbserver} is not on the agent's PATH")
            check(target.process)
            server = GdbServer(target, program)
            server.prepare()
            return server
        except SquashError as refusal:
            failure = refusal
            raise
        finally:
            target.attempts.append(attempt("gdbserver", started, failure))

    async def recover(self, directory: Path) -> None:
        await asyncio.to_thread(_recover, directory / NOTES, GUARD)


class GdbServer(Guarded):
    """One process's debug server, which talks to its client by way of the guard."""

    module = "agent.guard"

    def __init__(self, target: Target, program: str) -> None:
        super().__init__(target.process, target.directory, Log("gdb", pid=target.process.pid), target.guards)
        self._program = program

    def _arguments(self) -> Sequence[str]:
        return (self._program,)

    def _free(self, patience: float) -> bool:
        return _recover(self._notes, patience)


def check(process: Process, yama: Path = YAMA) -> None:
    """Raises SquashError when gdbserver could not attach to the process; does not stop it."""
    try:
        with (procfs.PROC / str(process.pid) / "exe").open("rb") as file:
            magic = file.read(4)
    except PermissionError:
        raise denied(process, yama) from None
    except OSError:
        magic = b""
    if not process.alive:
        raise SquashError(Reason.PROCESS_GONE, f"process {process.pid} is gone")
    if magic != b"\x7fELF":
        raise SquashError(Reason.DEBUGGER_UNSUITED, f"process {process.pid} has no native executable that can be read")
    number = _seize(process.pid)
    if number == errno.ESRCH:
        raise SquashError(Reason.PROCESS_GONE, f"process {process.pid} is gone")
    if number:
        raise denied(process, yama)
    try:
        os.kill(process.pid, 0)
    except ProcessLookupError:
        raise SquashError(Reason.PROCESS_GONE, f"process {process.pid} is gone") from None
    except PermissionError:
        # gdbserver would hang half attached, with the process stopped.
        raise SquashError(
            Reason.CAPABILITY_MISSING,
            f"the agent may trace process {process.pid} but not signal it: that takes CAP_KILL",
        ) from None


def _seize(pid: int) -> int:
    """The errno with which the kernel refuses to let us trace the process, 0 when it does not.

    A thread that ends lets go of what it traces, so the process need not be stopped to end the trial.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    refusals = []

    def trial() -> None:
        failed = libc.ptrace(_PTRACE_SEIZE, pid, None, None) == -1
        refusals.append(ctypes.get_errno() if failed else 0)

    thread = threading.Thread(target=trial, name="ptrace trial")
    thread.start()
    thread.join()
    tid, deadline = thread.native_id, time.monotonic() + 1
    # Python's join is over a moment before the kernel's thread is.
    while rescue.tracer(pid) == tid and time.monotonic() < deadline:
        time.sleep(0.0001)
    return refusals[0]


def _recover(path: Path, patience: float) -> bool:
    """Frees the process of these notes; a guard that is at it is given `patience` seconds. True when it is free."""
    return not await_guard(path, patience) or farewell.succeed(path, FAREWELL)

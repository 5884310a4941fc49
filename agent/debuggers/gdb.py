"""gdbserver for native programs, over a pipe and never a port, with a guard between it and us (agent.guard).

It is lazy: the process runs untraced until a client comes, because gdbserver stops what it attaches to.
"""

import asyncio
import contextlib
import ctypes
import errno
import os
import re
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path, PurePath

from agent import farewell, rescue
from agent.debuggers import Target, attempt
from agent.denied import YAMA, denied
from agent.libc import own_glibc
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding, ok, warning
from agent.preflight.needs import Needs
from agent.process import Process
from agent.rescue import Notes
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash import procfs
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason
from squash.tasks import spawn

CONNECT = 5.0
"""Seconds for gdbserver to attach when a client comes; it takes a few milliseconds."""
GUARD = 9.0
"""Seconds for the guard to free the process: its own limits and a little for a busy machine."""
FAREWELL = 3.0
"""Seconds for taking leave of a gdbserver whose guard was killed, before it is killed too."""
NOTES = "guard.json"

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
            return GdbServer(target, program)
        except SquashError as refusal:
            failure = refusal
            raise
        finally:
            target.attempts.append(attempt("gdbserver", started, failure))

    async def recover(self, directory: Path) -> None:
        await asyncio.to_thread(_recover, directory / NOTES, GUARD)


class GdbServer:
    """One process's debug server: a guard and a gdbserver for each client, and none between clients."""

    def __init__(self, target: Target, program: str) -> None:
        self._process = target.process
        self._notes = target.directory / NOTES
        self._program = program
        self._log = Log("gdb", pid=target.process.pid)
        self._ended = asyncio.Event()
        self._guard: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        try:
            self._pidfd = os.pidfd_open(target.process.pid)
        except ProcessLookupError:
            raise SquashError(Reason.PROCESS_GONE, f"process {target.process.pid} is gone") from None
        asyncio.get_running_loop().add_reader(self._pidfd, self._over)

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        """Attaches. The process is stopped from here on until the client lets it run, or leaves.

        So a client that connects and says nothing keeps it stopped. Raises OSError when gdbserver cannot attach.
        """
        await self.disconnected()
        if self._ended.is_set():
            raise ConnectionError(f"process {self._process.pid} is gone")
        ours, theirs = socket.socketpair()
        stream: Stream | None = None
        try:
            with theirs:
                self._guard = await asyncio.create_subprocess_exec(
                    *_command(self._process.pid, self._notes, self._program, terms),
                    stdin=theirs.fileno(),
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,
                )
            attached: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            self._watching = spawn(self._watch(self._guard, attached), f"guard of {self._process.pid}")
            stream = Stream(*await asyncio.open_unix_connection(sock=ours))
            async with asyncio.timeout(CONNECT):
                words = await attached
            if words != "attached":
                raise ConnectionError(words or "the guard died")
        except BaseException:
            if stream is None:
                ours.close()
            else:
                await stream.close()
            await self.disconnected()
            raise
        return stream

    async def disconnected(self) -> None:
        """The stream must be closed. Returns when the process is free, which takes some milliseconds as a rule."""
        watching = self._watching
        if watching is None:
            return
        await asyncio.wait({watching}, timeout=GUARD)
        if not watching.done() and self._guard:
            self._log.warning("the guard does not end")
            with contextlib.suppress(ProcessLookupError):
                self._guard.kill()
            await asyncio.wait({watching})
        self._guard = self._watching = None

    async def ended(self) -> None:
        await self._ended.wait()

    async def detach(self) -> None:
        await self.disconnected()
        self._over()

    async def _watch(self, guard: asyncio.subprocess.Process, attached: asyncio.Future[str]) -> None:
        """Until the guard has ended and the process is free."""
        words = ""
        if guard.stderr:
            while line := (await guard.stderr.readline()).decode(errors="replace").strip():
                words = line
                if not attached.done():
                    attached.set_result(line)
        status = await guard.wait()
        if status:
            self._log.warning("gdbserver ended", status=status, words=words)
            if not await asyncio.to_thread(_recover, self._notes, 0.0):
                self._log.error("the process could not be freed")
            if attached.done() and attached.result() == "attached":
                self._ended.set()
        if not attached.done():
            attached.set_result(words)

    def _over(self) -> None:
        self._ended.set()
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


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
            Reason.PTRACE_DENIED, f"the agent may trace process {process.pid} but not signal it: it needs CAP_KILL"
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


def _command(pid: int, notes: Path, gdbserver: str, terms: Terms) -> list[str]:
    root = str(Path(rescue.__file__).parent.parent)
    start = f"import sys; sys.path.insert(0, {root!r}); from agent.guard import main; main()"
    given = [name for name, holds in terms._asdict().items() if holds]
    return [sys.executable, "-I", "-S", "-c", start, str(pid), str(notes), gdbserver, *given]


def _recover(path: Path, patience: float) -> bool:
    """Frees the process of these notes; a guard that is at it is given `patience` seconds. True when it is free."""
    notes = Notes.load(path)
    if notes is None:
        return True
    if notes.guard.alive and not rescue.reap(notes.guard.pid, patience):
        with contextlib.suppress(ProcessLookupError):
            os.kill(notes.guard.pid, 9)
        rescue.reap(notes.guard.pid, 1.0)
    return farewell.succeed(path, FAREWELL)

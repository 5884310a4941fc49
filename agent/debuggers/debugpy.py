"""CPython 3.8 and newer by pid: debugpy's in-process adapter, brought in by `agent.ways`, over unix sockets.

Nothing listens inside the process. The agent listens in the target's directory, which is the target's user's alone;
code inside (inside/attach.py) dials it: once for the control line, and once for each client.
"""

import asyncio
import functools
import importlib.util
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent import pack
from agent.aside import aside
from agent.debuggers import Target, attempt
from agent.inner import Inner, take_out_left_behind
from agent.line import Line
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding, ok, refused, warning
from agent.preflight.needs import MEGABYTE, Needs
from agent.process import Process
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from agent.ways import WAYS, Errand, NoWayError
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason
from squash.tasks import spawn

INSIDE = [Path(__file__).parent / "inside" / name for name in ("loading.py", "leaving.py", "attach.py")]
DETACH = 5.0
"""Seconds for the debugger to take itself out before the agent hangs up; hanging up has it go on by itself."""

_log = Log("debugpy")


_VERSION = re.compile(r"(?:/libpython|/python)3\.(\d+)t?(?![\d.]*\.zip)")
"""In the paths of what a Python has mapped, or its own: the minor version."""
COMPILING = 64 * MEGABYTE
"""Bytes by which a process grows for some seconds when it has to compile debugpy itself."""
OLDEST, NEWEST = 8, 14
"""Minor versions of Python 3 that debugpy works in."""
MONITORED = 12
"""From this one on the interpreter itself reaches all threads (PEP 669), and tracing needs no compiled code."""


class Debugpy:
    name = "debugpy"
    protocol = "dap"
    needs = Needs(
        traces=True,
        directory=True,
        files=6 * MEGABYTE,
        memory=16 * MEGABYTE,
        runs_code=True,
        machines=frozenset({"x86_64", "aarch64"}),
    )

    def examine(self, facts: Facts) -> Iterator[Finding]:
        """Its version; and whether the parts of debugpy that are compiled can be loaded."""
        minor = _minor(facts.process)
        if minor is None:
            yield ok("version", "which Python it is will be seen by its functions")
        elif not OLDEST <= minor <= NEWEST:
            message = f"process {facts.process.pid} runs Python 3.{minor}; debugpy works in 3.{OLDEST} to 3.{NEWEST}"
            yield refused("version", Reason.DEBUGGER_UNSUITED, message)
        else:
            yield ok("version", f"Python 3.{minor}")
        memory = facts.target.memory
        if memory and memory.free < COMPILING and _compiles_itself(facts, minor):
            # Of a Python whose version is not to be seen, nothing compiled can be brought in.
            outside = "" if minor is None else f"put a python3.{minor} on the agent's PATH, which does it outside, or "
            if minor is not None and not facts.target.other_files:
                outside = f"have python3.{minor} compile {_package()} (-m compileall), or "
            message = (
                f"compiling debugpy in process {facts.process.pid} takes {COMPILING // MEGABYTE} MiB for some seconds, "
                f"and it may grow by {memory.free // MEGABYTE}: {outside}raise the container's limit"
            )
            yield refused("memory", Reason.MEMORY_SHORT, message)
        if minor is not None and minor < MONITORED:
            yield from _compiled(facts, minor)

    def claim(self, process: Process) -> float:
        """Sure of a program named python; less so of one that has libpython mapped."""
        if re.fullmatch(r"python(\d(\.\d+)?)?t?", Path(process.exe).name):
            return 0.9
        return 0.6 if "/libpython" in process.maps else -1.0

    async def attach(self, target: Target) -> "DebugpyServer":
        job = _Job(target, Inner(target.process, target.directory))
        try:
            await job.prepare(self.needs.files)
            await _enter(target, job)
            return DebugpyServer(target, job)
        except BaseException:
            await job.close()
            raise

    async def recover(self, directory: Path) -> None:
        """Takes its files out of the container.

        The code inside took the debugger out of the process when the control line ended with the agent.
        """
        await asyncio.to_thread(take_out_left_behind, directory)


class DebugpyServer:
    def __init__(self, target: Target, job: "_Job") -> None:
        self._target = target
        self._job = job
        self._line = job.line
        self._detached: asyncio.Task[None] | None = None

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        return await self._line.client(terms)

    async def disconnected(self) -> None:
        await self._line.tell("disconnect")

    async def ended(self) -> None:
        await self._line.ended.wait()

    async def detach(self) -> None:
        if self._detached is None:
            self._detached = spawn(self._detach(), "detach debugpy")
        await asyncio.wait({self._detached})

    async def _detach(self) -> None:
        try:
            if not await self._line.tell("detach", DETACH):
                _log.warning("process did not say that the debugger is out", pid=self._target.process.pid)
        finally:
            await self._job.close()


class _Job:
    """What is brought into the process: a file that it executes, and the line that it dials."""

    def __init__(self, target: Target, inner: Inner) -> None:
        self.line = Line(target.process, inner)
        self._process = target.process
        self._inner = inner
        self._package = ""
        self._package_name = ""

    def source(self) -> str:
        """What is injected: runs the job once, if it is still wanted, and leaves no name behind.

        The main thread only starts another: nobody waits while that reads and compiles. It must be the first to import
        `threading`, though, which takes whoever does for the main thread.
        """
        directory = self._inner.inside
        names = {
            "DIRECTORY": directory,
            "DEBUGPY": self._package,
            "TICKET": self.line.ticket,
            "__name__": "squash",
        }
        job = (
            "try:\n"
            " import os\n"
            f" os.rename({directory + '/job'!r}, {directory + '/taken'!r})\n"
            f" with open({directory + '/taken'!r}) as f: job = compile(f.read(), '<squash>', 'exec')\n"
            "except OSError:\n"
            " pass\n"
            "else:\n"
            f" exec(job, {names!r})\n"
        )
        start = (
            "try:\n"
            " import _thread, threading\n"
            f" _thread.start_new_thread(exec, ({job!r}, {{}}))\n"
            # A pending call that fails would raise in whatever the main thread is doing.
            "except BaseException:\n"
            " pass\n"
        )
        return f"exec({start!r}, {{}})"

    async def prepare(self, files: int) -> None:
        """Puts everything where the process finds it. Raises SquashError when the process could not use it."""
        await asyncio.to_thread(self._inner.make, files)
        package = _package()
        minor = _minor(self._process)
        if self._inner.mount:
            # What the preflight did not wait for takes seconds, and may hang.
            await aside(lambda: pack.compiled(package, minor), f"compiling debugpy for {self._process.pid}")
        contents = functools.partial(pack.contents, package, minor)
        # Each version has its own place: what is compiled for one is empty for the others.
        self._package_name = "debugpy" if minor is None else f"debugpy-3.{minor}"
        self._package = await asyncio.to_thread(self._inner.provide, package, self._package_name, contents)
        self._inner.write("job", b"\n".join(part.read_bytes() for part in INSIDE))
        self._inner.write("enter.py", self.source().encode())
        await self.line.listen([package / "__init__.py"])

    async def thin(self, loaded: object) -> None:
        """What the process has read need not lie in its memory a second time, as files in its container do."""
        if isinstance(loaded, list):
            files = [file for file in loaded if isinstance(file, str)]
            await asyncio.to_thread(self._inner.thin, self._package_name, files)

    @property
    def script(self) -> str:
        """The source as a file, as the process sees it."""
        return f"{self._inner.inside}/enter.py"

    async def close(self) -> None:
        """Hangs up; code that comes later finds that it is not wanted. Idempotent."""
        await asyncio.to_thread(self._inner.withdraw, "job")
        await self.line.close()


def _compiled(facts: Facts, minor: int) -> Iterator[Finding]:
    """What debugpy lacks without its compiled parts, before MONITORED."""
    if facts.agent.machine == "aarch64":
        message = (
            "debugpy has no compiled part for aarch64 that reaches threads which run already: before Python "
            f"3.{MONITORED} (this is 3.{minor}) breakpoints are hit only in those that start later"
        )
        yield warning("threads", message, f"take Python 3.{MONITORED} or newer")
    if facts.target.libc.name == "musl":
        message = f"debugpy's compiled parts are for glibc: on musl Python 3.{minor} runs slower while it is debugged"
        yield warning("libc", message, f"take Python 3.{MONITORED} or newer, or an image with glibc")


async def _enter(target: Target, job: _Job) -> None:
    """Tries one way after the other until the code inside has said that it is there. Raises SquashError."""
    line = job.line
    greeting, over = spawn(line.greeting(), "greeting from inside"), spawn(line.ended.wait(), "process ended")

    async def come() -> None:
        await asyncio.wait({greeting, over}, return_when=asyncio.FIRST_COMPLETED)

    coming = spawn(come(), "code inside")
    try:
        errand = Errand(target.process, job.source(), job.script, line, coming)
        ways = [way for way in WAYS if way.suits(target.process)]
        for way in ways:
            begun, strategy = time.monotonic(), way.name
            error: SquashError | None = SquashError(Reason.ATTACH_TIMEOUT, "given up before the code inside was there")
            try:
                strategy = await way.enter(errand)
                said = greeting.result() if greeting.done() else {}
                if "python" not in said:
                    raise _failure(target.process, said)
                await job.thin(said.get("loaded"))
                error = None
                return
            except SquashError as failure:
                error = failure
                if way is ways[-1] or not isinstance(failure, NoWayError):
                    raise
            finally:
                target.attempts.append(attempt(strategy, begun, error))
    finally:
        for task in (greeting, over, coming):
            task.cancel()


def _failure(process: Process, said: dict[str, Any]) -> SquashError:
    if "reason" in said:
        _log.warning("debugger did not start", pid=process.pid, traceback=said.get("traceback"))
        unsuited = said["reason"] == Reason.DEBUGGER_UNSUITED
        reason = Reason.DEBUGGER_UNSUITED if unsuited else Reason.ATTACH_FAILED
        return SquashError(reason, f"process {process.pid}: {said.get('message')}")
    if not process.alive:
        return SquashError(Reason.PROCESS_GONE, f"process {process.pid} ended while debugpy was attached")
    return SquashError(Reason.ATTACH_FAILED, f"process {process.pid} hung up while debugpy was attached")


def _minor(process: Process) -> int | None:
    """The minor version of its Python 3, as the paths tell of what it has mapped; None when they do not."""
    found = _VERSION.search(f"{process.exe}\n{process.maps}")
    return int(found[1]) if found else None


def _compiles_itself(facts: Facts, minor: int | None) -> bool:
    """Whether the process finds sources alone. Blocks for seconds when they have to be compiled for it."""
    package = _package()
    return not (pack.compiled if facts.target.other_files else pack.lies_compiled)(package, minor)


def _package() -> Path:
    """Where this environment's debugpy lies. Raises SquashError when there is none."""
    spec = importlib.util.find_spec("debugpy")
    if spec is None or not spec.submodule_search_locations:
        raise SquashError(Reason.DEBUGGER_MISSING, "debugpy is not installed in the agent's environment")
    return Path(spec.submodule_search_locations[0])

"""CPython 3.8 and newer by pid: debugpy's in-process adapter, brought in by `agent.inject`, over unix sockets.

Nothing listens inside the process. The agent listens in the target's directory, which is the target's user's alone;
code inside (inside/attach.py) dials it: once for the control line, and once for each client.
"""

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import agent
from agent.debuggers import Target, attempt
from agent.denied import denied
from agent.inner import Inner
from agent.process import Process
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason
from squash.tasks import spawn

INSIDE = Path(__file__).parent / "inside" / "attach.py"
CONNECT = 10.0
"""Seconds for the process to dial for a client: a thread of it answers at once unless the interpreter is blocked."""
DETACH = 5.0
"""Seconds for the debugger to take itself out before the agent hangs up; hanging up has it go on by itself."""

_log = Log("debugpy")


class Debugpy:
    name = "debugpy"
    protocol = "dap"

    def claim(self, process: Process) -> float:
        """Sure of a program named python; less so of one that has libpython mapped."""
        if re.fullmatch(r"python(\d(\.\d+)?)?t?", Path(process.exe).name):
            return 0.9
        with contextlib.suppress(OSError):
            if "/libpython" in Path(f"/proc/{process.pid}/maps").read_text():
                return 0.6
        return -1.0

    async def attach(self, target: Target) -> "DebugpyServer":
        inner = await asyncio.to_thread(Inner.make, target.process, target.directory)
        line = _Line(target, inner)
        try:
            await line.listen()
            await _inject(target, line)
            return DebugpyServer(target, line)
        except BaseException:
            await line.close()
            raise

    async def recover(self, directory: Path) -> None:
        """Takes its files out of the container.

        The code inside took the debugger out of the process when the control line ended with the agent.
        """
        if inner := await asyncio.to_thread(Inner.left_behind, directory):
            await asyncio.to_thread(inner.remove)


class DebugpyServer:
    def __init__(self, target: Target, line: "_Line") -> None:
        self._target = target
        self._line = line
        self._detached: asyncio.Task[None] | None = None

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        return await self._line.client(terms)

    async def disconnected(self) -> None:
        await self._line.tell("disconnect", CONNECT)

    async def ended(self) -> None:
        await self._line.ended.wait()

    async def detach(self) -> None:
        if self._detached is None:
            self._detached = spawn(self._detach(), "detach debugpy")
        await asyncio.wait({self._detached})

    async def _detach(self) -> None:
        if not await self._line.tell(f"detach {self._line.page}", DETACH):
            _log.warning("process did not say that the debugger is out", pid=self._target.process.pid)
        await self._line.close()


class _Line:
    """The control line to the code inside, and the connections it makes for clients."""

    def __init__(self, target: Target, inner: Inner) -> None:
        self._target = target
        self._inner = inner
        self._package = ""
        self._ticket = secrets.token_hex(16)
        self._control: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()
        self._clients: asyncio.Queue[Stream] = asyncio.Queue()
        self._turn = asyncio.Lock()
        self._listener: asyncio.Server | None = None
        self.ended = asyncio.Event()
        self.page = 0
        self._watch = -1

    @property
    def arrived(self) -> bool:
        return self._control.done()

    def source(self) -> str:
        """What is injected: runs the job once, if it is still wanted, and leaves no name behind."""
        directory = self._inner.inside
        names = {
            "DIRECTORY": directory,
            "DEBUGPY": self._package,
            "TICKET": self._ticket,
            "__name__": "squash",
        }
        steps = (
            "try:\n"
            " import os\n"
            f" os.rename({directory + '/job'!r}, {directory + '/taken'!r})\n"
            f" with open({directory + '/taken'!r}) as f: exec(compile(f.read(), '<squash>', 'exec'), {names!r})\n"
            # A pending call that fails would raise in whatever the main thread is doing.
            "except BaseException:\n"
            " pass\n"
        )
        return f"exec({steps!r}, {{}})"

    async def listen(self) -> None:
        """Prepares the directory. Raises SquashError when the process could not use it."""
        directory, process = self._inner.outside, self._target.process
        self._package = await asyncio.to_thread(self._inner.provide, _package())
        path = directory / "agent.sock"
        self._listener = await asyncio.start_unix_server(self._accept, path)
        path.chmod(0o600)
        job = directory / "job"
        job.write_bytes(INSIDE.read_bytes())
        if process.uid != os.geteuid():
            # The directory last: once it is the process's user's, that user decides what the names in it mean.
            for owned in (path, job, directory):
                _give(process, owned)
        if not self._inner.mount:
            _check_readable(process, [directory, _package() / "__init__.py"])
        # The end of the process is the end of the line, even while a child of it holds the socket open.
        self._watch = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._watch, self._over)

    async def greeting(self) -> dict[str, Any]:
        """The first thing that the code inside says: it is there, or why it is not."""
        return await self._read(await asyncio.shield(self._control))

    async def tell(self, order: str, limit: float) -> bool:
        """True when the order was carried out within `limit` seconds."""
        if not self.arrived or self.ended.is_set():
            return False
        async with self._turn:
            control = self._control.result()
            try:
                async with asyncio.timeout(limit):
                    control.writer.write(order.encode() + b"\n")
                    await control.writer.drain()
                    while said := await self._read(control):
                        if said.get("done") == order.split(maxsplit=1)[0]:
                            return True
                    return False
            except (OSError, TimeoutError):
                self._over()
                return False

    async def client(self, terms: Terms) -> Stream:
        """A connection for a client. Raises OSError when the process does not dial."""
        if not await self.tell("client terminate" if terms.may_end else "client", CONNECT):
            raise ConnectionError("the process did not dial for the client")
        try:
            async with asyncio.timeout(CONNECT):
                return await self._clients.get()
        except TimeoutError:
            self._over()
            raise ConnectionError(f"the process said that it dialed, and nobody came within {CONNECT:g} s") from None

    async def close(self) -> None:
        """Hangs up; code that comes later finds that it is not wanted. Idempotent."""
        with contextlib.suppress(OSError):
            (self._inner.outside / "job").unlink(missing_ok=True)
        self._over()
        if self._listener:
            self._listener.close()
        while not self._clients.empty():
            await self._clients.get_nowait().close()
        if self.arrived and not self._control.cancelled():
            await self._control.result().close()
        self._control.cancel()
        await asyncio.to_thread(self._inner.remove)

    def _over(self) -> None:
        self.ended.set()
        if self._watch >= 0:
            asyncio.get_running_loop().remove_reader(self._watch)
            os.close(self._watch)
            self._watch = -1

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream = Stream(reader, writer)
        try:
            async with asyncio.timeout(CONNECT):
                ticket, _, kind = (await reader.readline()).strip().partition(b" ")
        except (OSError, TimeoutError, ValueError):
            ticket = kind = b""
        if not secrets.compare_digest(ticket, self._ticket.encode()) or self.ended.is_set():
            await stream.close()
        elif kind == b"client":
            self._clients.put_nowait(stream)
        elif not self._control.done():
            self._control.set_result(stream)
        else:
            await stream.close()

    async def _read(self, control: Stream) -> dict[str, Any]:
        """The next object on the line; an empty one when the line has ended."""
        said = await control.reader.readline()
        if not said:
            self._over()
            return {}
        try:
            found: dict[str, Any] = json.loads(said)
        except ValueError as error:
            raise ConnectionError(f"not what the code inside says: {said[:80]!r}") from error
        return found


async def _inject(target: Target, line: _Line) -> None:
    """Runs the injector and waits until the code inside has said that it is there. Raises SquashError."""
    process, begun = target.process, time.monotonic()
    here = str(Path(agent.__file__).parent.parent)
    setup = f"import sys; sys.path.insert(0, {here!r}); from agent.inject import main; main()"
    injector = await asyncio.create_subprocess_exec(
        *(sys.executable, "-S", "-E", "-c", setup, str(process.pid), str(process.start_time)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert injector.stdin is not None  # noqa: S101 - asked for above
    # Not as an argument: everybody may read those, and the ticket is in it.
    injector.stdin.write(json.dumps(line.source()).encode() + b"\n")
    results = spawn(_results(injector, line), "injector")
    greeting = spawn(line.greeting(), "greeting from inside")
    over = spawn(line.ended.wait(), "process ended")
    strategy = "ptrace"
    error: SquashError | None = None
    try:
        await asyncio.wait({greeting, results, over}, return_when=asyncio.FIRST_COMPLETED)
        if results.done() and not line.arrived and "reason" in results.result():
            raise _refused(process, results.result())
        await asyncio.wait({greeting, over}, return_when=asyncio.FIRST_COMPLETED)
        said = greeting.result() if greeting.done() else {}
        injector.stdin.close()
        strategy = f"ptrace, {(await results).get('strategy', '?')}"
        if "python" not in said:
            raise _failure(process, said)
    except SquashError as failure:
        error = failure
        raise
    finally:
        injector.stdin.close()
        for task in (greeting, over):
            task.cancel()
        target.attempts.append(attempt(strategy, begun, error))


async def _results(injector: asyncio.subprocess.Process, line: _Line) -> dict[str, Any]:
    """The injector's last word. It is never ended early: it lets go of the process by itself."""
    assert injector.stdout is not None  # noqa: S101 - asked for above
    result: dict[str, Any] = {"reason": Reason.ATTACH_FAILED, "message": "the injector died without a word"}
    async for said in injector.stdout:
        result = json.loads(said)
        line.page = result.get("page", 0)
    await injector.wait()
    return result


def _refused(process: Process, said: dict[str, Any]) -> SquashError:
    reason = Reason(said["reason"])
    return denied(process) if reason is Reason.PTRACE_DENIED else SquashError(reason, said["message"])


def _failure(process: Process, said: dict[str, Any]) -> SquashError:
    if "reason" in said:
        _log.warning("debugger did not start", pid=process.pid, traceback=said.get("traceback"))
        return SquashError(Reason(said["reason"]), f"process {process.pid}: {said['message']}")
    if not process.alive:
        return SquashError(Reason.PROCESS_GONE, f"process {process.pid} ended while debugpy was attached")
    return SquashError(Reason.ATTACH_FAILED, f"process {process.pid} hung up while debugpy was attached")


def _package() -> Path:
    """Where this environment's debugpy lies. Raises SquashError when there is none."""
    spec = importlib.util.find_spec("debugpy")
    if spec is None or not spec.submodule_search_locations:
        raise SquashError(Reason.DEBUGGER_MISSING, "debugpy is not installed in the agent's environment")
    return Path(spec.submodule_search_locations[0])


def _give(process: Process, place: Path) -> None:
    """Makes the process's user the owner. Raises SquashError when the agent may not."""
    try:
        os.chown(place, process.uid, process.gid, follow_symlinks=False)
    except PermissionError as error:
        message = f"'{place}' cannot be given to user {process.uid} of process {process.pid}: that takes CAP_CHOWN"
        raise SquashError(Reason.PTRACE_DENIED, message) from error


def _check_readable(process: Process, paths: list[Path]) -> None:
    """Raises SquashError naming what the process's user cannot reach, going by mode bits (path_resolution(7))."""
    if process.uid == 0:
        return
    for path in paths:
        for place in [*reversed(path.resolve().parents), path.resolve()]:
            if not _may(process, place):
                raise SquashError(
                    Reason.FILES_UNREADABLE, f"process {process.pid} of user {process.uid} cannot reach '{place}'"
                )


def _may(process: Process, place: Path) -> bool:
    """Whether its user may pass a directory, or read a file."""
    facts = place.stat()
    shift = 6 if facts.st_uid == process.uid else 3 if facts.st_gid == process.gid else 0
    need = 1 if place.is_dir() else 4
    return bool(facts.st_mode >> shift & need)

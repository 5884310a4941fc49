"""Ways into a running CPython: each has its main thread execute a piece of source, which then dials the agent.

A ladder: `remote_exec` asks the interpreter itself (3.14 and newer), `ptrace` leads a thread through code of ours,
`gdb` calls functions as a person would by hand. Only the last harms the process if whoever does it is killed meanwhile.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import agent
from agent import remote_exec
from agent.denied import denied
from agent.line import Line
from agent.process import Process
from squash.errors import SquashError
from squash.reasons import Reason
from squash.tasks import spawn

SAFE_POINT = 1.0
"""Seconds for a thread that runs Python to come to a point where it executes a script."""
SLEEPY = 1.0
"""Seconds after which a main thread that has not run what gdb has queued is asleep, if it says so."""


class NoWayError(SquashError):
    """Another way may lead into this process."""


@dataclass(frozen=True)
class Errand:
    """What is to be executed, where, and how it is known that it has been."""

    process: Process
    source: str
    script: str
    """The source as a file, as the process sees it."""
    line: Line
    come: "asyncio.Task[None]"
    """Done when the code inside has said something, or the process has ended."""


class Way(Protocol):
    name: str

    def suits(self, process: Process) -> bool:
        """Whether to try at all: a way that cannot be meant for the process is no attempt."""

    async def enter(self, errand: Errand) -> str:
        """Returns what it did when `come` is done. Raises NoWayError, or SquashError when no other way would help."""


class RemoteExec:
    name = "remote_exec"

    def suits(self, process: Process) -> bool:
        found = re.search(r"python3\.(\d+)", process.exe)
        return found is None or int(found[1]) >= remote_exec.KNOWN & 255

    async def enter(self, errand: Errand) -> str:
        with contextlib.ExitStack() as asked:
            try:
                wish = remote_exec.asked(errand.process.pid, errand.process.start_time, errand.script)
                await asyncio.to_thread(asked.enter_context, wish)
            except remote_exec.NotNowError as error:
                raise NoWayError(Reason.DEBUGGER_UNSUITED, f"process {errand.process.pid}: {error}") from error
            except OSError as error:
                raise NoWayError(Reason.PTRACE_DENIED, f"process {errand.process.pid}: {error}") from error
            await asyncio.wait({errand.come}, timeout=SAFE_POINT)
        if not errand.come.done() and not errand.line.arrived:
            message = f"process {errand.process.pid} came to no safe point within {SAFE_POINT:g} s"
            raise NoWayError(Reason.ATTACH_FAILED, message)
        await asyncio.wait({errand.come})
        return self.name


class Ptrace:
    name = "ptrace"

    def suits(self, process: Process) -> bool:
        return True

    async def enter(self, errand: Errand) -> str:
        process = errand.process
        here = str(Path(agent.__file__).parent.parent)
        setup = f"import sys; sys.path.insert(0, {here!r}); from agent.inject import main; main()"
        injector = await asyncio.create_subprocess_exec(
            *(sys.executable, "-S", "-E", "-c", setup, str(process.pid), str(process.start_time)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert injector.stdin is not None  # noqa: S101 - asked for above
        results = spawn(_results(injector), "injector")
        try:
            # Not as an argument: everybody may read those, and the ticket is in it.
            injector.stdin.write(json.dumps(errand.source).encode() + b"\n")
            await asyncio.wait({errand.come, results}, return_when=asyncio.FIRST_COMPLETED)
            if results.done() and not errand.line.arrived and "reason" in results.result():
                raise _refused(process, results.result())
            await asyncio.wait({errand.come})
            injector.stdin.close()
            return f"ptrace, {(await results).get('strategy', '?')}"
        finally:
            injector.stdin.close()


async def _results(injector: asyncio.subprocess.Process) -> dict[str, Any]:
    """The injector's last word. It is never ended early: it lets go of the process by itself."""
    assert injector.stdout is not None  # noqa: S101 - asked for above
    result: dict[str, Any] = {"reason": Reason.ATTACH_FAILED, "message": "the injector died without a word"}
    async for said in injector.stdout:
        result = json.loads(said)
    await injector.wait()
    return result


def _refused(process: Process, said: dict[str, Any]) -> SquashError:
    reason = Reason(said["reason"])
    if reason is Reason.PTRACE_DENIED:
        return denied(process)
    return (NoWayError if said.get("other_way") else SquashError)(reason, said["message"])


class Gdb:
    """For machines that `ptrace` does not know. It stops all threads for some tenths of a second."""

    name = "gdb"

    def suits(self, process: Process) -> bool:
        return True

    async def enter(self, errand: Errand) -> str:
        if shutil.which("gdb") is None:
            raise NoWayError(Reason.DEBUGGER_MISSING, "gdb is not installed beside the agent")
        await _gdb(errand.process, errand.source, _QUEUE)
        await asyncio.wait({errand.come}, timeout=SLEEPY)
        come = errand.come.done() or errand.line.arrived
        if not come and await asyncio.to_thread(remote_exec.asleep, errand.process.pid):
            await _gdb(errand.process, errand.source, *_AT_ONCE)
        await asyncio.wait({errand.come})
        return self.name


_CALLED = "squash has called, result"
_QUEUE = f'printf "{_CALLED} %d\\n", ((int (*)(void *, void *)) Py_AddPendingCall)((void *) PyRun_SimpleString, $page)'
_AT_ONCE = (
    "set $state = ((int (*)(void)) PyGILState_Ensure)()",
    f'printf "{_CALLED} %d\\n", ((int (*)(void *)) PyRun_SimpleString)($page)',
    "call ((void (*)(int)) PyGILState_Release)($state)",
)


_ADDRESS = "0" * 20
"""Stands for the page's address in the text, in decimal digits, until gdb knows it."""
_MORE = 1024
"""Bytes for what gives the page back."""


def _text(source: str) -> tuple[bytes, int]:
    """The source, and what gives its page back once it has been read; and the bytes of that page."""
    size = -(-(len(source.encode()) + _MORE) // 4096) * 4096
    unmap = (
        "try:\n"
        " import ctypes\n"
        f" ctypes.CDLL(None).munmap(ctypes.c_void_p(int('{_ADDRESS}')), ctypes.c_size_t({size}))\n"
        "except BaseException:\n"
        " pass\n"
    )
    later = f"try:\n import _thread\n _thread.start_new_thread(exec, ({unmap!r}, {{}}))\nexcept BaseException:\n pass\n"
    return f"{source}\nexec({later!r}, {{}})\n".encode(), size


def _put(text: bytes, size: int, file: str) -> Iterator[str]:
    """Commands that put the file, which has that text, into a page of its own; `$page` is its address."""
    mmap = "((void *(*)(void *, unsigned long, int, int, int, long)) mmap)"
    yield f"set $page = {mmap}((void *) 0, {size}, 3, 0x22, -1, 0)"
    yield f"restore {file} binary $page"
    at = text.rindex(_ADDRESS.encode())
    for place in range(len(_ADDRESS)):
        unit = 10 ** (len(_ADDRESS) - 1 - place)
        yield f"set {{char}}($page + {at + place}) = 48 + ((unsigned long) $page / {unit}ul) % 10"


async def _gdb(process: Process, source: str, *calls: str) -> None:
    """Makes the calls with the source at `$page`.

    Raises SquashError when the call was not made, or did not return 0.
    """
    text, size = _text(source)
    # In memory: there is a ticket in it, and a file might lie where the process's user decides what its name means.
    file = os.memfd_create("squash")
    try:
        os.write(file, text)
        await _run_gdb(process, [*_put(text, size, f"/proc/self/fd/{file}"), *calls], file)
    finally:
        os.close(file)


async def _run_gdb(process: Process, commands: list[str], file: int) -> None:
    argv = ["gdb", "-nx", "-batch", "-iex", "set auto-load off", "-iex", "set debuginfod enabled off"]
    argv += ["-p", str(process.pid)]
    argv += [word for command in commands for word in ("-ex", command)]
    # It is left alone when the attach is given up: ended half-way it would leave its calls in the process.
    gdb = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        pass_fds=(file,),
    )
    said, _ = await asyncio.shield(spawn(gdb.communicate(), "gdb"))
    if f"{_CALLED} 0\n".encode() not in said:
        words = said.decode(errors="replace").strip()[-300:]
        raise SquashError(Reason.ATTACH_FAILED, f"gdb could not enter process {process.pid}: {words}")


WAYS: tuple[Way, ...] = (RemoteExec(), Ptrace(), Gdb())

"""Makes a running CPython execute a piece of code, without gdb: a program of its own, run by `agent.debuggers.debugpy`.

It survives the agent: were it killed while the thread is stopped on our call, the thread would run on with our
registers. So it ignores signals, needs about a millisecond for its work, and never gives up a call half-way.

Two ways, told apart by what the main thread is doing. Running Python (or C code that will return to it): the code
is queued with Py_AddPendingCall and the interpreter runs it between two instructions. Blocked in a system call: the
code runs at once, under PyGILState_Ensure; the system call is then started again by the kernel. A main thread that
waits for a lock may be waiting for the interpreter itself, where it must not be disturbed: the code is queued, and
run at once only when the thread has slept through PATIENCE, as it does in `join` or `acquire`; a thread that waits
for the interpreter wakes up every few milliseconds.

Usage: python -S -E -c … PID START_TIME, and the code as a JSON string in the first line of stdin; prints JSON objects,
one a line. Imports the standard library only.
"""

import contextlib
import json
import os
import re
import select
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.elf import NotElfError, dynamic_symbols
from agent.ptrace import FUTEX, GoneError, Stopped, StuckError

PENDING, RUN, ENSURE, RELEASE = "Py_AddPendingCall", "PyRun_SimpleString", "PyGILState_Ensure", "PyGILState_Release"
SINCE_3_8 = "PyConfig_InitPythonConfig"
"""Came with CPython 3.8 (PEP 587), the oldest version that debugpy knows."""
SYMBOLS = frozenset({PENDING, RUN, ENSURE, RELEASE, SINCE_3_8})

MMAP = 9
BLOCKING = frozenset(
    {
        *(0, 7, 23, 270, 271),  # read, poll, select, pselect6, ppoll
        *(232, 281, 441),  # epoll_wait, epoll_pwait, epoll_pwait2
        *(42, 43, 45, 47, 288, 299),  # connect, accept, recvfrom, recvmsg, accept4, recvmmsg
        *(34, 35, 128, 130, 230),  # pause, nanosleep, rt_sigtimedwait, rt_sigsuspend, clock_nanosleep
        *(61, 247),  # wait4, waitid
    }
)
"""System calls that may last, in which a thread holds no lock of the C library (x86-64 numbers)."""

PATIENCE = 0.1
"""Seconds without a moment of wakefulness after which a lock that is waited for is not the interpreter's (5 ms)."""


class RefusedError(Exception):
    """This cannot be done; `reason` is the value of a `squash.reasons.Reason`."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True)
class Interpreter:
    """Where CPython's functions and a `syscall` instruction lie in a process."""

    functions: dict[str, int]
    code: tuple[tuple[int, int], ...]
    """Executable mappings of the C library and the vDSO, to look for the instruction."""


_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ \S+ *(.*)")


def find_interpreter(pid: int) -> Interpreter:
    """Raises RefusedError when the process is no CPython that can be attached to."""
    lowest: dict[str, int] = {}
    code = []
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        match = _MAPPING.match(line)
        if not match:
            continue
        start, end, rights, path = int(match[1], 16), int(match[2], 16), match[3], match[5]
        lowest.setdefault(path, start)
        if "x" in rights and (path == "[vdso]" or re.search(r"/(libc[.-]|ld-musl)[^/]*$", path)):
            code.append((start, end))
    exe = os.readlink(f"/proc/{pid}/exe")
    candidates = [(exe, Path(f"/proc/{pid}/exe"))]
    candidates += [(path, Path(f"/proc/{pid}/root{path}")) for path in lowest if "/libpython" in path]
    for path, file in candidates:
        try:
            symbols = dynamic_symbols(file, SYMBOLS)
        except (NotElfError, OSError):
            continue
        if {PENDING, RUN, ENSURE, RELEASE} <= symbols.addresses.keys():
            if SINCE_3_8 not in symbols.addresses:
                raise RefusedError(
                    "debugger_unsuited", f"{path} is older than CPython 3.8, the oldest that debugpy knows"
                )
            base = lowest.get(path, 0) if symbols.relocatable else 0
            return Interpreter({name: base + at for name, at in symbols.addresses.items()}, tuple(code))
    raise RefusedError("debugger_unsuited", f"process {pid} ({exe}) is no CPython: it lacks the functions of its C API")


def inject(pid: int, start_time: int, source: str) -> dict[str, Any]:
    """Returns `strategy` (`pending` or `direct`), `page` (where the source lies) and `stopped` (seconds).

    Raises RefusedError. `direct` has run the code; `pending` has it run as soon as the main thread is back in Python.
    """
    if os.uname().machine != "x86_64":
        raise RefusedError("debugger_unsuited", f"attaching by ptrace knows x86-64 only, not {os.uname().machine}")
    interpreter = find_interpreter(pid)
    begun = time.monotonic()
    try:
        with Stopped(pid) as thread:
            if _start_time(pid) != start_time or interpreter != find_interpreter(pid):
                raise RefusedError("process_gone", f"process {pid} ended or became another program")
            page = _put(thread, interpreter, source)
            strategy = _run(thread, interpreter, page)
    except PermissionError as error:
        raise RefusedError("ptrace_denied", str(error)) from error
    except GoneError as error:
        raise RefusedError("process_gone", f"process {pid} ended while it was attached") from error
    stopped = time.monotonic() - begun
    return {"strategy": strategy, "page": page, "stopped": stopped}


def insist(pid: int, page: int) -> bool:
    """For a main thread that sleeps: runs the code at once. False when it is awake after all."""
    interpreter, before = find_interpreter(pid), _switches(pid)
    with Stopped(pid) as thread:
        if (thread.syscall != FUTEX and thread.syscall not in BLOCKING) or _switches(pid) > before + 1:
            return False
        _run_now(thread, interpreter, page)
    return True


def _put(thread: Stopped, interpreter: Interpreter, source: str) -> int:
    """A page of the process's memory with the source in it."""
    data = source.encode() + b"\0"
    for start, end in interpreter.code:
        offset = thread.read(start, end - start).find(b"\x0f\x05")
        if offset >= 0:
            # PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS
            page = thread.system_call(start + offset, MMAP, 0, len(data), 3, 0x22, -1, 0)
            thread.write(page, data)
            return page
    raise RefusedError("debugger_unsuited", "no system call instruction found in the C library")


def _run(thread: Stopped, interpreter: Interpreter, page: int) -> str:
    if thread.syscall in BLOCKING:
        _run_now(thread, interpreter, page)
        return "direct"
    run = interpreter.functions[RUN]
    try:
        # The wait for the lock of the pending calls may be abandoned: only this thread can be what holds it.
        queued = thread.call(interpreter.functions[PENDING], run, page, patience=1.0)
    except StuckError as error:
        raise RefusedError("attach_failed", f"{error}: try again") from error
    if queued != 0:
        raise RefusedError("attach_failed", "the interpreter's queue of pending calls is full: try again")
    return "pending"


def _run_now(thread: Stopped, interpreter: Interpreter, page: int) -> None:
    state = thread.call(interpreter.functions[ENSURE])
    thread.call(interpreter.functions[RUN], page)
    thread.call(interpreter.functions[RELEASE], state)


def _switches(pid: int) -> int:
    """How often the main thread has gone to sleep or been put aside so far."""
    text = Path(f"/proc/{pid}/task/{pid}/status").read_text()
    return sum(map(int, re.findall(r"voluntary_ctxt_switches:\t(\d+)", text)))


def _see_through(pid: int, page: int) -> bool:
    """Waits until the agent says, by closing stdin, that the code has run or is not wanted; insists if need be."""
    switches = -1
    while not select.select([sys.stdin], [], [], PATIENCE)[0]:
        before, switches = switches, _switches(pid)
        if switches == before and insist(pid, page):
            return True
    return False


def _start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])


def main() -> None:
    """Prints the result, or `{"reason": …, "message": …}`; then, for `pending`, sees it through.

    A second result is printed when it had to insist.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    pid, start_time, source = int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.stdin.readline() or '""')
    try:
        result = inject(pid, start_time, source)
        _say(result)
        if result["strategy"] == "pending" and _see_through(pid, result["page"]):
            _say(result | {"strategy": "direct"})
    except RefusedError as refusal:
        _say({"reason": refusal.reason, "message": str(refusal)})
    except PermissionError as error:
        _say({"reason": "ptrace_denied", "message": str(error)})
    except (GoneError, FileNotFoundError, ProcessLookupError):
        _say({"reason": "process_gone", "message": f"process {pid} ended while it was attached"})
    except OSError as error:
        _say({"reason": "attach_failed", "message": f"process {pid}: {error}"})


def _say(result: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the agent is gone
        os.write(sys.stdout.fileno(), json.dumps(result).encode() + b"\n")

"""Makes a running CPython execute a piece of code, without gdb: a program of its own, run by `agent.debuggers.debugpy`.

It stops the main thread for less than a millisecond, lays what is to be done on its stack, and sends it through a
piece of code of ours, in one step. From there the thread finds back by itself (`agent.machines`), so that this program
may be killed at any moment: the thread goes on, and at worst the code is not run.

Two ways, told apart by what the main thread is doing. Running Python (or C code that will return to it): the code
is queued with Py_AddPendingCall and the interpreter runs it between two instructions. Asleep in a system call: the
code runs at once, under PyGILState_Ensure, and the system call is started again after it. A main thread that waits for
a lock may be waiting for the interpreter itself, where it must not be disturbed: the code is queued, and run at once
only when the thread has slept through PATIENCE, as it does in `join` or `acquire`; a thread that waits for the
interpreter wakes up every few milliseconds.

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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import machines, taskstat
from agent.elf import NotElfError, dynamic_symbols, slack
from agent.machines import BadMomentError, Job, Machine, RefusedError
from agent.ptrace import GoneError, SignalledError, StandsError, Stopped

PENDING, RUN, ENSURE, RELEASE = "Py_AddPendingCall", "PyRun_SimpleString", "PyGILState_Ensure", "PyGILState_Release"
SINCE_3_8 = "PyConfig_InitPythonConfig"
"""Came with CPython 3.8 (PEP 587), the oldest version that debugpy knows."""
SYMBOLS = frozenset({PENDING, RUN, ENSURE, RELEASE, SINCE_3_8})

PATIENCE = 0.1
"""Seconds without a moment of wakefulness after which a lock that is waited for is not the interpreter's (5 ms)."""
STUCK = 1.0
"""Seconds that the lock of the pending calls may be waited for: it is held for nanoseconds."""
MOMENTS, STOPS, MOMENT = 1000, 500, 0.01
"""How often a better moment is waited for, also in a process that a signal has stopped, and for how many seconds."""
ROOM = 256 * 1024
"""Bytes of stack that the interpreter may need for the code."""


@dataclass(frozen=True)
class Mapping:
    start: int
    end: int
    rights: str
    offset: int
    path: str


@dataclass(frozen=True)
class Interpreter:
    """Where CPython's functions lie in a process, and where code of ours can lie."""

    functions: dict[str, int]
    places: tuple[int, ...]
    """Addresses, the best first."""

    def job(self, source: bytes, *, now: bool = False) -> Job:
        ensure, run, release, pending = (self.functions[name] for name in (ENSURE, RUN, RELEASE, PENDING))
        return Job(source, ensure, run, release, pending, now)


_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) \S+ \S+ *(.*)")


def mappings(pid: int) -> list[Mapping]:
    text = Path(f"/proc/{pid}/maps").read_text()
    found = filter(None, map(_MAPPING.match, text.splitlines()))
    return [Mapping(int(m[1], 16), int(m[2], 16), m[3], int(m[4], 16), m[5]) for m in found]


def find_interpreter(pid: int, machine: Machine) -> Interpreter:
    """Raises RefusedError when the process is no CPython that can be attached to."""
    maps = mappings(pid)
    exe = os.readlink(f"/proc/{pid}/exe")
    for path in [exe, *dict.fromkeys(mapping.path for mapping in maps if "/libpython" in mapping.path)]:
        try:
            symbols = dynamic_symbols(_file(pid, path, exe), SYMBOLS)
        except (NotElfError, OSError):
            continue
        if {PENDING, RUN, ENSURE, RELEASE} <= symbols.addresses.keys():
            if SINCE_3_8 not in symbols.addresses:
                raise RefusedError(
                    "debugger_unsuited", f"{path} is older than CPython 3.8, the oldest that debugpy knows"
                )
            base = min(mapping.start for mapping in maps if mapping.path == path) if symbols.relocatable else 0
            functions = {name: base + at for name, at in symbols.addresses.items()}
            return Interpreter(functions, tuple(_places(pid, maps, exe, len(machine.CODE))))
    raise RefusedError("debugger_unsuited", f"process {pid} ({exe}) is no CPython: it lacks the functions of its C API")


def _file(pid: int, path: str, exe: str) -> Path:
    return Path(f"/proc/{pid}/exe") if path == exe else Path(f"/proc/{pid}/root{path}")


def _places(pid: int, maps: list[Mapping], exe: str, size: int) -> Iterator[int]:
    """Where nobody's bytes are executable: behind the code of the program and its libraries, in its last page."""
    for mapping in maps:
        if mapping.rights != "r-xp" or not mapping.path.startswith("/"):
            continue
        try:
            found = slack(_file(pid, mapping.path, exe))
        except (NotElfError, OSError):
            continue
        for gap in found:
            begin = mapping.start + (gap.begin + 15 & ~15)
            if gap.mapped_from == mapping.offset and mapping.start + gap.end == mapping.end >= begin + size:
                yield begin


def inject(pid: int, start_time: int, source: str) -> dict[str, Any]:
    """Returns `strategy` (`pending` or `direct`) and `stopped` (seconds). Raises RefusedError.

    `direct` has the code run at once; `pending` as soon as the main thread is back in Python.
    """
    machine = machines.this()
    if machine is None:
        raise RefusedError(
            "debugger_unsuited", f"attaching by ptrace does not know {os.uname().machine}", other_way=True
        )
    if lack := machine.refusal():
        raise RefusedError("debugger_unsuited", lack, other_way=True)
    interpreter = find_interpreter(pid, machine)
    left, stops, last = MOMENTS, STOPS, ""
    while left and stops:
        begun = time.monotonic()
        try:
            # Not even stopped on a detour: what a system call of the detour would leave in the kernel to be started
            # again is in place of what the thread itself was interrupted in (restart_syscall(2)).
            if blocked_signals(pid) == machine.BLOCKED:
                raise BadMomentError("the thread is on an earlier detour")
            if taskstat.stopped(pid):
                raise BadMomentError("the process is stopped by a signal")
            with Stopped(pid, machine.Registers) as thread:
                if started(pid) != start_time or interpreter != find_interpreter(pid, machine):
                    raise RefusedError("process_gone", f"process {pid} ended or became another program")
                strategy = Detour(machine, interpreter, thread).take(source.encode())
        except (BadMomentError, StandsError) as error:
            last = str(error)
            stopped = taskstat.stopped(pid)
            left, stops = left - (not stopped), stops - stopped
            time.sleep(MOMENT)  # nothing tells when the thread gets on
            continue
        except PermissionError as error:
            raise RefusedError("ptrace_denied", str(error)) from error
        except GoneError as error:
            raise RefusedError("process_gone", f"process {pid} ended while it was attached") from error
        return {"strategy": strategy, "stopped": time.monotonic() - begun}
    never = f"is never where it may be disturbed ({last}): try again"
    why = never if stops else "is stopped by a signal: continue it first"
    raise RefusedError("attach_failed", f"the main thread of process {pid} {why}")


def insist(pid: int, start_time: int, source: str) -> bool:
    """For a main thread that sleeps: runs the code at once. False when it is awake after all, or another by now."""
    machine = machines.this()
    assert machine  # noqa: S101 - inject has refused otherwise
    interpreter, before = find_interpreter(pid, machine), switches(pid)
    if blocked_signals(pid) == machine.BLOCKED or taskstat.stopped(pid):
        return False
    with contextlib.suppress(StandsError), Stopped(pid, machine.Registers) as thread:
        if started(pid) != start_time or interpreter != find_interpreter(pid, machine):
            return False
        detour = Detour(machine, interpreter, thread)
        asleep = detour.asleep_in(machine.FUTEX | machine.BLOCKING) and switches(pid) <= before + 1
        if asleep:
            with contextlib.suppress(BadMomentError):
                detour.go(interpreter.job(source.encode(), now=True))
                return True
    return False


class Detour:
    """Sends one stopped thread through code of ours."""

    def __init__(self, machine: Machine, interpreter: Interpreter, thread: Stopped) -> None:
        self._machine = machine
        self._interpreter = interpreter
        self._thread = thread
        try:
            self._state = machine.look(thread)
        except SignalledError as error:
            raise BadMomentError("a signal is being delivered to the thread") from error
        self._code = self._place()

    def asleep_in(self, syscalls: frozenset[int]) -> bool:
        return self._machine.asleep(self._state) and self._machine.syscall(self._state) in syscalls

    def take(self, source: bytes) -> str:
        """The strategy. Raises RefusedError, BadMomentError."""
        now = self.asleep_in(self._machine.BLOCKING)
        self.go(self._interpreter.job(source, now=now))
        return "direct" if now else "pending"

    def go(self, job: Job) -> None:
        """Raises RefusedError when the code will not run, BadMomentError when nothing has been done."""
        thread, machine = self._thread, self._machine
        if machine.within(machine.registers(self._state), self._code) or thread.mask() == machine.BLOCKED:
            raise BadMomentError("the thread is on an earlier detour")
        self._see_room(machine.stack(self._state), job)
        away, at, block = machine.detour(self._state, self._code, job)
        thread.write(at, block)
        if thread.read(self._code, len(machine.CODE)) != machine.CODE:
            thread.write(self._code, machine.CODE)
        thread.send(away)
        # From here on it does everything by itself. What follows is only to see how it went.
        try:
            self._watch(job, at)
        except SignalledError as error:
            if thread.mask() == machine.BLOCKED:
                return  # a stop signal, which nobody can block: the thread is under way, and goes on from there
            # It came before anything else was done. Its handler is to find the thread, and a system call that it
            # interrupts, where they were; while it is on its detour it has signals blocked.
            within = machine.within(thread.registers(), self._code)
            if within and machine.signalled(thread, self._state, at, error.number):
                raise BadMomentError("a signal is being delivered to the thread") from error

    def _watch(self, job: Job, at: int) -> None:
        thread, machine = self._thread, self._machine
        while thread.to_syscall(STUCK):
            registers = thread.registers()
            stage = machine.stage(registers) if machine.within(registers, self._code) else ""
            if stage == "mapped" and job.now and machine.mapped(registers):
                return
            if stage == "leaving":
                _check(machine.outcome(registers))
                return
        if not job.now and machine.locked(thread):
            # The lock of the pending calls: only this thread can be what holds it. So it must be let go of.
            machine.give_up(thread, self._state, self._code, at)
            raise RefusedError("attach_failed", "the call waits for a lock that the thread itself may hold: try again")

    def _place(self) -> int:
        code = self._machine.CODE
        for place in self._interpreter.places:
            found = self._thread.read(place, len(code))
            # What another version of ours has put there may be in use: a call of it may still be queued.
            if found == code or not found.startswith(code[:7]):
                return place
        message = "there is no room for code behind that of the program or a library"
        raise RefusedError("debugger_unsuited", message, other_way=True)

    def _see_room(self, stack: int, job: Job) -> None:
        """Raises BadMomentError on a stack that is too small, as coroutines of C have them; the kernel's own grows."""
        need = self._machine.STACK + len(job.source) + ROOM
        for mapping in mappings(self._thread.tid):
            if mapping.start <= stack <= mapping.end and (mapping.path == "[stack]" or stack - mapping.start >= need):
                return
        raise BadMomentError("the thread runs on a small stack")


def _check(outcome: int) -> None:
    if outcome == -1:
        raise RefusedError("attach_failed", "the interpreter's queue of pending calls is full: try again")
    if outcome:
        raise RefusedError("attach_failed", f"no memory for the code in the process: {os.strerror(-outcome)}")


def blocked_signals(pid: int) -> int:
    """Those of the main thread."""
    found = re.search(r"^SigBlk:\t([0-9a-f]+)", _status(pid), re.MULTILINE)
    return int(found[1], 16) if found else 0


def switches(pid: int) -> int:
    """How often the main thread has gone to sleep or been put aside so far."""
    return sum(map(int, re.findall(r"voluntary_ctxt_switches:\t(\d+)", _status(pid))))


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/task/{pid}/status").read_text()


def _see_through(pid: int, start_time: int, source: str) -> bool:
    """Waits until the agent says, by closing stdin, that the code has run or is not wanted; insists if need be."""
    last = -1
    while not select.select([sys.stdin], [], [], PATIENCE)[0]:
        before, last = last, switches(pid)
        if last == before and insist(pid, start_time, source):
            return True
    return False


def started(pid: int) -> int:
    """Clock ticks since boot, by which a process is told from a later one of that number."""
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
        if result["strategy"] == "pending" and _see_through(pid, start_time, source):
            _say(result | {"strategy": "direct"})
    except RefusedError as refusal:
        _say({"reason": refusal.reason, "message": str(refusal), "other_way": refusal.other_way})
    except PermissionError as error:
        _say({"reason": "ptrace_denied", "message": str(error)})
    except (GoneError, FileNotFoundError, ProcessLookupError):
        _say({"reason": "process_gone", "message": f"process {pid} ended while it was attached"})
    except OSError as error:
        _say({"reason": "attach_failed", "message": f"process {pid}: {error}"})


def _say(result: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the agent is gone
        os.write(sys.stdout.fileno(), json.dumps(result).encode() + b"\n")

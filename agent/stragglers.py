"""Threads that a debugger leaves in the middle of a breakpoint when it ends: they are sent back to before it.

A thread that has executed a breakpoint's trap stands behind it, and is to get a SIGTRAP, which ends a Go program. Its
debugger puts both right, but only when it has seen that thread. Where it has not, and ends:

- the signal waits still, because another stop came first; or
- it is delivered as soon as the debugger is gone, so that the thread stands at the first instruction of its handler; or
- the debugger has seen the thread, and done no more: the signal is gone, and the thread would go on behind the trap.

No thread must execute anything before it was looked at. So each is sent a SIGSTOP while the debugger still holds it
(`hold`). The kernel delivers all signals of a thread before it returns to the program, so that the debugger's end turns
these into a stop of the whole process, which outlasts that end. Then each thread can be traced (`send_back`).

What is known of signals' frames here is that of x86-64 (arch/x86/include/uapi/asm/sigcontext.h). Imports the standard
library only: guards run without site-packages.
"""

import contextlib
import ctypes
import os
import signal
import struct
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from agent.delve_start import CAREFUL
from agent.machines.x86_64 import Registers
from agent.ptrace import SIGINFO, GoneError, Halted
from agent.taskstat import STATE, fields

KNOWN = os.uname().machine == CAREFUL
"""Whether this can be done on this machine."""
STOP = 0.5
"""Seconds for threads to stop. Who needs longer is in the kernel, far from any trap, and stops on its way out."""
SIGNAL = 0.2
"""Seconds for a thread to take a signal that waits for it, and all of these."""
ALL = 2.0
"""Seconds for all threads to take theirs: somebody may send signals faster than they can be taken."""
_TGKILL = 234
_TRAP, _STEP, _WATCH = 0x80, 2, 4
"""SIGTRAP's si_code when a trap was executed (SI_TRAP), a single step made, or a watchpoint's data used."""
_SHORT = frozenset(
    {*range(0x50, 0x60), *range(0x6C, 0x70), *range(0x90, 0x9A), *range(0x9B, 0xA0), *range(0xA4, 0xA8)}
    | {*range(0xAA, 0xB0), 0xC3, 0xC9, 0xCB, 0xCC, 0xCF, 0xD7, 0xF1, 0xF4, 0xF5, *range(0xF8, 0xFE)}
)
"""Instructions of one byte: whoever stands behind such a one may have executed it."""
_DR7 = 848 + 7 * 8
"""The register that says which watchpoints are on, in struct user."""
_MCONTEXT_RIP = 40 + 16 * 8
"""Where a signal's frame has the place to go on from, counted from its ucontext."""
_libc = ctypes.CDLL(None, use_errno=True)


def hold(pid: int) -> None:
    """Sends each thread a SIGSTOP, and returns when all stand still, traced or not."""
    told: set[int] = set()
    deadline = time.monotonic() + STOP
    while True:
        threads = _threads(pid)
        for thread in threads - told:
            _libc.syscall(_TGKILL, pid, thread, int(signal.SIGSTOP))
        if threads <= told and all(_state(pid, thread) in "tTZX" for thread in threads):
            return
        told |= threads
        if time.monotonic() > deadline:
            return
        time.sleep(0.0005)  # nothing tells who is no tracer


def send_back(pid: int, traps: Mapping[int, bytes], standing: Collection[int], debugger: int) -> None:
    """Puts right every thread of a process that `hold` has stopped, and whose debugger is gone.

    `traps`: what stood at each of its breakpoints, whose code must be as it was. `standing`: those that were still
    there when it ended. The process is stopped afterwards, too.
    """
    begun = time.monotonic()
    for thread in _threads(pid):
        while _state(pid, thread) not in "TZX" and time.monotonic() < begun + STOP:
            time.sleep(0.0005)
        if _state(pid, thread) != "T":
            continue
        with contextlib.suppress(GoneError, TimeoutError, OSError), Halted(thread, Registers) as halted:
            _Straggler(halted, traps, standing, debugger).send_back(pid, min(begun + ALL, time.monotonic() + SIGNAL))


class _Straggler:
    """One thread, traced."""

    def __init__(self, thread: Halted, traps: Mapping[int, bytes], standing: Collection[int], debugger: int) -> None:
        self._thread = thread
        self._traps = traps
        self._debugger = debugger
        self._placed = False
        # Behind a longer instruction's first byte nobody can be but by a trap.
        self._inside = {at for at, text in traps.items() if at in standing or text[0] not in _SHORT}

    def send_back(self, pid: int, deadline: float) -> None:
        """Until `deadline` (time.monotonic) it may take signals."""
        if self._thread.user(_DR7):
            self._thread.set_user(_DR7, 0)
        while _waits(pid, self._thread.tid) and time.monotonic() < deadline:
            if not self._take_signal():
                break
        registers = self._thread.registers()
        if self._placed or self._in_handler(registers):
            return
        if registers.rip - 1 in self._inside:
            registers.rip -= 1
            self._thread.send(registers)

    def _take_signal(self) -> bool:
        """Whether the signal that comes first is gone. Else it gets that one, and another thread the SIGTRAP of all."""
        info = self._thread.next_signal(SIGNAL)
        if not info:
            return False
        registers = self._thread.registers()
        if self._ours(info, registers.rip):
            if _code(info) == _TRAP:
                registers.rip -= 1
                self._thread.send(registers)
                self._placed = True
        elif _number(info) != signal.SIGSTOP:  # that is ours: another thread's came before it
            return False
        self._thread.forget_signal()
        return True

    def _in_handler(self, registers: Any) -> bool:
        """Whether it was just being delivered its SIGTRAP. Then it returns from the handler, to before the trap."""
        frame = registers.rsp
        context, info_at = frame + 8, registers.rsi
        if registers.rdi != signal.SIGTRAP or registers.rdx != context or not 0 < info_at - frame < 4096:
            return False
        info = self._thread.read(info_at, SIGINFO)
        (back,) = struct.unpack("=Q", self._thread.read(context + _MCONTEXT_RIP, 8))
        # A predecessor may have been killed when half of it was done.
        if not self._ours(info, back) and not (_code(info) == _TRAP and back in self._traps):
            return False
        if _code(info) == _TRAP and back - 1 in self._traps:
            self._thread.write(context + _MCONTEXT_RIP, struct.pack("=Q", back - 1))
        (registers.rip,) = struct.unpack("=Q", self._thread.read(frame, 8))
        registers.rsp += 8
        self._thread.send(registers)
        return True

    def _ours(self, info: bytes, rip: int) -> bool:
        """Whether a signal is the debugger's doing, for a thread that is there."""
        code, sender = struct.unpack_from("=i4xi", info, 8)
        if _number(info) != signal.SIGTRAP:
            return False
        if code == _TRAP:
            return rip - 1 in self._traps
        # A process in a pid namespace of its own sees senders outside of it as 0.
        return code in (_STEP, _WATCH) or (code <= 0 and sender in (0, self._debugger))


def _number(info: bytes) -> int:
    (found,) = struct.unpack_from("=i", info)
    return int(found)


def _code(info: bytes) -> int:
    (found,) = struct.unpack_from("=i", info, 8)
    return int(found)


def _waits(pid: int, thread: int) -> bool:
    """Whether a SIGTRAP waits for this thread, or for anybody, and it would take it."""
    try:
        text = Path(f"/proc/{pid}/task/{thread}/status").read_text(errors="replace")
    except OSError:
        return False
    words = {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    own, shared, blocked = (int(words.get(name, "0"), 16) for name in ("SigPnd", "ShdPnd", "SigBlk"))
    return bool((own | shared) & ~blocked & 1 << signal.SIGTRAP - 1)


def _threads(pid: int) -> set[int]:
    try:
        return {int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()}
    except OSError:
        return set()


def _state(pid: int, thread: int) -> str:
    found = fields(f"/proc/{pid}/task/{thread}/stat")
    return found[STATE] if found else "X"

"""x86-64: registers, system calls (numbers of arch/x86/entry/syscalls), and the code of x86_64.S."""

import ctypes
import struct
from pathlib import Path
from typing import Any

from agent.machines.job import BLOCKED, Job
from agent.ptrace import Stopped

_FIELDS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
)
_POPS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rcx", "rdx", "rsi", "rdi"),
    *("rax", "eflags", "rip"),
)
_NO_SYSCALL = 2**64 - 1
"""In orig_rax: not in a system call, so the kernel has none to start again."""
_RED_ZONE = 128
_MASK_AT = 48
_VECTOR_AT, _VECTOR = 128, 4096
_POLL, _MMAP, _GETPID, _RESTART, _FUTEX, _FUTEX_WAITV = 7, 9, 39, 219, 202, 449
_RESTARTS, _NOINTR, _NOHAND, _BLOCK = -512, -513, -514, -516
"""ERESTARTSYS and its kin (linux/errno.h): how a system call that was interrupted is to be started again."""
_SA_RESTART = 0x10000000


class Registers(ctypes.Structure):
    """user_regs_struct of <sys/user.h>."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in _FIELDS]


class X86:
    """The `Machine` of x86-64."""

    CODE = bytes.fromhex(
        "7371756173682f314889e5b80e000000bf02000000488d7538488d553041ba080000000f05b8e700000031d2480faea580000000dbe3c745"
        "38801f00000fae5538b80900000031ff488b7520ba0300000041ba2200000049c7c0ffffffff4531c90f054889c3483d00f0ffff77654989"
        "c4488b450849890424488b45204989442408498d7c2410488b7548488b4d28f3a4488b45004885c07417ffd04189c54c89e7e8de00000044"
        "89efff551031dbeb22488d3dcd0000004c89e6ff55184863d885c0740eb80b0000004c89e7488b75200f05b8270000000f0548837d500074"
        "5eb87f000000488d7d38be080000000f05488b453048f7d0482345387441480fbcf8ffc7b80d00000031f6488d556041ba080000000f0548"
        "837d60017621488b4558488545687517488b754048c74670fcffffff488b455048898680000000b8e700000031d2480faead80000000b80e"
        "000000bf02000000488d753031d241ba080000000f05488b6540415f415e415d415c5d5b415b415a41594158595a5e5f589dc28000534889"
        "fb488d7f10ff13b80b0000004889df488b73080f0531c05bc3"
    )
    ENTRY = 8
    BLOCKED = BLOCKED
    STACK = 8192
    FUTEX = frozenset({_FUTEX, _FUTEX_WAITV, _RESTART})
    BLOCKING = frozenset(
        {
            *(0, 7, 23, 270, 271),  # read, poll, select, pselect6, ppoll
            *(232, 281, 441),  # epoll_wait, epoll_pwait, epoll_pwait2
            *(42, 43, 45, 47, 288, 299),  # connect, accept, recvfrom, recvmsg, accept4, recvmmsg
            *(34, 35, 128, 130, 230),  # pause, nanosleep, rt_sigtimedwait, rt_sigsuspend, clock_nanosleep
            *(61, 247),  # wait4, waitid
        }
    )
    Registers: type[ctypes.Structure] = Registers

    def refusal(self) -> str:
        flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
        return "" if " xsave " in f"{flags} " else "this processor lacks XSAVE"

    def look(self, thread: Stopped) -> Any:
        return thread.registers()

    def registers(self, state: Any) -> Any:
        return state

    def syscall(self, state: Any) -> int:
        return ctypes.c_long(state.orig_rax).value

    def asleep(self, state: Any) -> bool:
        # -EINTR is what epoll_wait and a few others say of any stop.
        woken = ctypes.c_long(state.rax).value in (_RESTARTS, _NOINTR, _NOHAND, _BLOCK, -4)
        return self.syscall(state) >= 0 and woken

    def stack(self, state: Any) -> int:
        found: int = state.rsp
        return found

    def within(self, registers: Any, code: int) -> bool:
        inside: bool = 0 <= registers.rip - code <= len(self.CODE)
        return inside

    def detour(self, state: Any, code: int, job: Job) -> tuple[Any, int, bytes]:
        saved, interrupted, restarting = self._way_back(state)
        pops = b"".join(struct.pack("<Q", getattr(saved, name)) for name in _POPS)
        pops_at = state.rsp - _RED_ZONE - len(pops)
        source = job.source + b"\0"
        block_at = (pops_at - len(source) - _VECTOR - _VECTOR_AT) & ~63
        source_at = block_at + _VECTOR_AT + _VECTOR
        block = struct.pack(
            "<12Q",
            *(job.ensure if job.now else 0, job.run, job.release, job.pending, job.page, len(source)),
            *(0, BLOCKED, pops_at, source_at, interrupted, restarting),
        )
        data = block.ljust(_VECTOR_AT + _VECTOR, b"\0") + source
        away = Registers.from_buffer_copy(state)
        away.rip, away.rsp, away.rax, away.orig_rax = code + self.ENTRY, block_at, 0, _NO_SYSCALL
        away.eflags = 0x202  # interrupts allowed, as always, and nothing else: no direction, no single step
        return away, block_at, data.ljust(pops_at - block_at, b"\0") + pops

    def _way_back(self, registers: Any) -> tuple[Any, int, int]:
        """Registers to go on with, and what a signal makes of an interrupted system call (x86_64.S: 80 and 88).

        The kernel starts a call again only when the thread leaves the stop as it came; so it is done by hand, in the
        same way (arch_do_signal_or_restart).
        """
        saved, syscall = Registers.from_buffer_copy(registers), self.syscall(registers)
        error = ctypes.c_long(registers.rax).value
        if syscall < 0 or error not in (_RESTARTS, _NOINTR, _NOHAND, _BLOCK):
            return saved, 0, 0
        saved.rip = registers.rip - 2
        # A wait without an end needs nothing that the kernel has kept of it.
        endless = syscall == _POLL and ctypes.c_int(registers.rdx).value < 0
        saved.rax = _RESTART if error == _BLOCK and not endless else syscall
        if error == _NOINTR:
            return saved, 0, 0
        return saved, registers.rip, _SA_RESTART if error == _RESTARTS else 0

    def signalled(self, thread: Stopped, state: Any, at: int, number: int) -> bool:
        """The kernel goes by the registers, so they alone have the signal interrupt the system call."""
        thread.send(state)
        return True

    def locked(self, thread: Stopped) -> bool:
        return self.syscall(thread.registers()) in self.FUTEX

    def give_up(self, thread: Stopped, state: Any, code: int, at: int) -> None:
        thread.set_mask(struct.unpack("<Q", thread.read(at + _MASK_AT, 8))[0])
        thread.send(state)

    def stage(self, registers: Any) -> str:
        syscall = self.syscall(registers)
        entering = ctypes.c_long(registers.rax).value == -38  # ENOSYS, until the call has been made
        if syscall == _MMAP and not entering:
            return "mapped"
        return "leaving" if syscall == _GETPID and entering else ""

    def mapped(self, registers: Any) -> bool:
        return ctypes.c_long(registers.rax).value > 0

    def outcome(self, registers: Any) -> int:
        found: int = ctypes.c_long(registers.rbx).value
        return 0 if found > 0 else found

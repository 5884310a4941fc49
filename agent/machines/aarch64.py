"""aarch64: registers, system calls (numbers of asm-generic/unistd.h), and the code of aarch64.S."""

import ctypes
import struct
from dataclasses import dataclass
from typing import Any

from agent.machines.job import BLOCKED, BadMomentError, Job, RefusedError
from agent.ptrace import Stopped

_SVC = (0xD4000001).to_bytes(4, "little")
_RESTARTS, _NOINTR, _NOHAND, _BLOCK, _EINTR = -512, -513, -514, -516, -4
"""ERESTARTSYS and its kin (linux/errno.h): how a system call that was interrupted is to be started again."""
_MMAP, _GETPID, _FUTEX, _RESTART, _FUTEX_WAITV = 222, 172, 98, 128, 449
_SA_RESTART = 0x10000000
_ENTERING = 0
"""In x7, at a stop by a system call: it begins. What the thread had in there is not to be seen then."""
_BRANCHES, _STEP, _CONDITIONS = 3 << 10, 1 << 21, 15 << 28
"""Of the processor's state: a branch that must aim well, a single step, flags."""
_FPREGS, _SVE, _STREAMING, _SHADOW_STACK = 2, 0x405, 0x40B, 0x410
"""Sets of registers (linux/elf.h): NT_PRFPREG, NT_ARM_SVE, NT_ARM_SSVE, NT_ARM_GCS."""
_FPSIMD_MAGIC, _SVE_MAGIC = 0x46508001, 0x53564501
_BLOCK_SIZE, _EARLY_AT = 128, 64
_CONTEXT_AT, _VECTORS_AT, _VECTORS = 128 + 176, 128 + 464, 4096
"""Of a frame's ucontext: struct sigcontext, and the records behind its registers (asm/sigcontext.h)."""
_LIMIT = 1.0
"""Seconds for a system call to begin and to be interrupted."""


class GeneralRegisters(ctypes.Structure):
    """user_pt_regs of <asm/ptrace.h>."""

    _fields_ = [("x", ctypes.c_ulonglong * 31), *((name, ctypes.c_ulonglong) for name in ("sp", "pc", "pstate"))]


@dataclass(frozen=True)
class State:
    """Where a thread was stopped."""

    registers: GeneralRegisters
    """To go on with. When a system call was interrupted, they begin it again."""
    syscall: int
    error: int
    """What the system call that it was stopped in says of that, 0: it was in none, or that was through."""
    vectors: bytes
    """Records of a signal's frame."""


class Aarch64:
    """The `Machine` of aarch64."""

    CODE = bytes.fromhex(
        "7371756173682f31f3030091e81080d2400080d261e2009162a20491030180d2010000d4881080d2000080d261420491010000d41f441bd5"
        "3f441bd5c81b80d2000080d2611240f9620080d2430480d204008092050080d2010000d4f50300aa1ffc3fb102040054f40300aa69aa42a9"
        "6b0640f96c1240f98b3200a98b4200914c1540386c150038290500f1a1ffff54690240f9490100b420013fd6f603002ae00314aa3c000094"
        "e003162a690a40f920013fd6150080d20b000014c0060010e10314aa690e40f920013fd6157c4093b50000b4e81a80d2e00314aa611240f9"
        "010000d4881580d2010000d4742640f9d40400b4081180d260e20091010180d2010000d469aa43a96b9640f929012b8a29010aaa290200b4"
        "2901c0da2011c0da00040091c81080d2010080d262820191030180d2010000d4692a46a93f0500f1c90000546b2a40f95f010bea61000054"
        "600080920b000014692e40f9690100b4e81080d2400080d261a20491020080d2030180d2010000d4081080d2010000d460de00f9745e01f9"
        "7f020291681180d2010000d45f2403d5fd7bbea9fd030091f30b00f9f30300aa090441f820013fd6e81a80d2e00313aa610640f9010000d4"
        "00008052f30b40f9fd7bc2a8c0035fd6"
    )
    ENTRY = 8
    BACK = 0xE4
    """Where in CODE the way back begins."""
    REST = 0x17C
    """Where in CODE a thread waits for what was left of a wait: nothing of ours is to be done there any more."""
    BLOCKED = BLOCKED
    STACK = 8192
    FUTEX = frozenset({_FUTEX, _FUTEX_WAITV, _RESTART})
    BLOCKING = frozenset(
        {
            *(63, 72, 73),  # read, pselect6, ppoll
            *(22, 441),  # epoll_pwait, epoll_pwait2
            *(202, 203, 207, 212, 242, 243),  # accept, connect, recvfrom, recvmsg, accept4, recvmmsg
            *(101, 115, 133, 137),  # nanosleep, clock_nanosleep, rt_sigsuspend, rt_sigtimedwait
            *(95, 260),  # waitid, wait4
        }
    )
    Registers: type[ctypes.Structure] = GeneralRegisters

    def refusal(self) -> str:
        return ""

    def look(self, thread: Stopped) -> State:
        """A thread in a system call is stopped before it begins it again, and nothing says why it was interrupted.

        So it is led in once more: at the end of that one the kernel's own errors are to be seen (do_signal of
        arch/arm64 turns them into registers just before the first stop).
        """
        _see_no_shadow_stack(thread)
        registers = thread.registers()
        vectors = _vectors(thread)
        if thread.read(registers.pc, len(_SVC)) != _SVC:
            # -EINTR is what epoll_wait and a few others say of any stop.
            interrupted = _signed(registers.x[0]) == _EINTR and thread.read(registers.pc - 4, len(_SVC)) == _SVC
            return State(registers, registers.x[8] if interrupted else -1, _EINTR if interrupted else 0, vectors)
        if not thread.in_and_out(_LIMIT):
            raise BadMomentError("the thread begins a system call that cannot be interrupted")
        after = thread.registers()
        if after.pc != registers.pc + 4:
            raise BadMomentError("the thread has become another program, or was in a signal's handler")
        error = _signed(after.x[0])
        if error in (_RESTARTS, _NOINTR, _NOHAND, _BLOCK):
            return State(registers, registers.x[8], error, vectors)
        after.x[7] = registers.x[7]
        return State(after, registers.x[8], error if error == _EINTR else 0, _vectors(thread))

    def syscall(self, state: State) -> int:
        return state.syscall

    def asleep(self, state: State) -> bool:
        return state.error != 0

    def stack(self, state: State) -> int:
        found: int = state.registers.sp
        return found

    def within(self, registers: Any, code: int) -> bool:
        at: int = registers.pc - code
        return 0 <= at <= len(self.CODE) and at != self.REST

    def registers(self, state: State) -> GeneralRegisters:
        return state.registers

    def detour(self, state: State, code: int, job: Job) -> tuple[GeneralRegisters, int, bytes]:
        saved, source = state.registers, job.source + b"\0"
        frame = _frame(saved, state.vectors)
        block_at = (saved.sp - len(source) - len(frame) - _BLOCK_SIZE) & ~63
        interrupted = saved.pc + 4 if state.error in (_RESTARTS, _NOHAND, _BLOCK) else 0
        block = struct.pack(
            "<12Q",
            *(job.ensure if job.now else 0, job.run, job.release, job.pending, job.page, len(source)),
            *(block_at + _BLOCK_SIZE + len(frame), BLOCKED, 0),
            *(interrupted, _SA_RESTART if state.error == _RESTARTS else 0, state.error == _BLOCK),
        )
        away = GeneralRegisters.from_buffer_copy(saved)
        away.pc, away.sp, away.x[0] = code + self.ENTRY, block_at, 0
        away.pstate &= ~(_BRANCHES | _STEP | _CONDITIONS)
        return away, block_at, block.ljust(_BLOCK_SIZE, b"\0") + frame + source

    def signalled(self, thread: Stopped, state: State, at: int, number: int) -> bool:
        """GeneralRegisters alone would not have the signal interrupt the system call: CODE is told of it instead."""
        thread.write(at + _EARLY_AT, struct.pack("<Q", 1 << number - 1))
        return False

    def locked(self, thread: Stopped) -> bool:
        registers = thread.registers()
        return registers.x[8] in self.FUTEX and thread.read(registers.pc, len(_SVC)) == _SVC

    def give_up(self, thread: Stopped, state: State, code: int, at: int) -> None:
        registers = thread.registers()
        registers.pc, registers.sp, registers.x[19], registers.x[21] = code + self.BACK, at, at, 0
        registers.pstate &= ~(_BRANCHES | _STEP)
        thread.send(registers)

    def stage(self, registers: GeneralRegisters) -> str:
        syscall, entering = registers.x[8], registers.x[7] == _ENTERING
        if syscall == _MMAP and not entering:
            return "mapped"
        return "leaving" if syscall == _GETPID and entering else ""

    def mapped(self, registers: GeneralRegisters) -> bool:
        return _signed(registers.x[0]) > 0

    def outcome(self, registers: GeneralRegisters) -> int:
        found = _signed(registers.x[21])
        return 0 if found > 0 else found


def _signed(value: int) -> int:
    return ctypes.c_longlong(value).value


def _frame(saved: GeneralRegisters, vectors: bytes) -> bytes:
    """struct rt_sigframe; the stack for signals and the mask are filled in by CODE."""
    context = struct.pack("<Q", 0) + bytes(saved)
    padding = _VECTORS_AT - _CONTEXT_AT - len(context)
    return bytes(_CONTEXT_AT) + context + bytes(padding) + vectors.ljust(_VECTORS, b"\0")


def _vectors(thread: Stopped) -> bytes:
    """Records of a signal's frame: FPSIMD, and SVE when more of it is in use. Raises BadMomentError."""
    fp = thread.register_set(_FPREGS, 528)
    status, control = struct.unpack_from("<II", fp, 512)
    found = struct.pack("<IIII", _FPSIMD_MAGIC, 528, status, control) + fp[:512]
    streaming = thread.register_set(_STREAMING, 65_536)
    if streaming and _flags(streaming) & 1:
        raise BadMomentError("the thread computes in streaming mode")
    sve = thread.register_set(_SVE, 65_536)
    if not sve or not _flags(sve) & 1:
        return found
    (length,) = struct.unpack_from("<H", sve, 8)
    data = sve[16 : 16 + 32 * length + 16 * (length // 8) + length // 8]
    size = -(-(16 + len(data)) // 16) * 16
    if len(found) + size + 16 > _VECTORS:
        raise BadMomentError("the thread's vectors are longer than a plain signal's frame has room for")
    return found + (struct.pack("<IIHHI", _SVE_MAGIC, size, length, 0, 0) + data).ljust(size, b"\0")


def _flags(vectors: bytes) -> int:
    """Of a user_sve_header; bit 0: behind it are registers that are in use."""
    found: int = struct.unpack_from("<H", vectors, 12)[0]
    return found


def _see_no_shadow_stack(thread: Stopped) -> None:
    """Raises RefusedError for a thread with a Guarded Control Stack: a way back that it does not know would end it."""
    found = thread.register_set(_SHADOW_STACK, 24)
    if found and found[0] & 1:
        message = "the thread runs with a guarded control stack, on which a detour would be taken for an attack"
        raise RefusedError("debugger_unsuited", message, other_way=True)

"""One stopped thread of another process: read and set its state, make it do a system call or call a function.

x86-64 Linux, by ptrace(2). All calls must come from one thread of ours. What is changed is put back by `restore`:
general, floating-point and vector registers and the signal mask; signals that arrive meanwhile stay pending in the
kernel and are delivered afterwards. Imports the standard library only: the injector runs without site-packages.
"""

import contextlib
import ctypes
import errno
import os
import signal
import struct
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

CONT, SINGLESTEP, DETACH = 7, 9, 17
GETREGSET, SETREGSET, SEIZE, INTERRUPT, GETSIGMASK, SETSIGMASK = 0x4204, 0x4205, 0x4206, 0x4207, 0x420A, 0x420B
NT_PRSTATUS, NT_X86_XSTATE = 1, 0x202
WALL = 0x40000000
FUTEX = 202
XSTATE_SIZE = 16_384
"""Bytes; AMX, the largest extended state so far, needs 11 KiB."""

_FIELDS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi"),
    *("orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs"),
)
_NO_SYSCALL = 2**64 - 1
"""In orig_rax: not in a system call, so the kernel has none to start again."""


class Registers(ctypes.Structure):
    """user_regs_struct of <sys/user.h>."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in _FIELDS]

    rax: int
    rdi: int
    rsi: int
    rdx: int
    r10: int
    r8: int
    r9: int
    orig_rax: int
    rip: int
    rsp: int

    def copy(self) -> "Registers":
        return Registers.from_buffer_copy(self)


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class GoneError(Exception):
    """The thread ended while it was traced."""


class StuckError(Exception):
    """A call in the thread waits for a lock that it will not get."""


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, tid, address, data) == -1:
        number = ctypes.get_errno()
        if number == errno.ESRCH:
            raise GoneError(f"thread {tid} is gone")
        raise OSError(number, os.strerror(number))


class Stopped:
    """A context manager: the thread is stopped inside and runs on, as it was, after it.

    Raises PermissionError when the kernel forbids it, GoneError when the thread is gone.
    """

    def __init__(self, tid: int) -> None:
        self.tid = tid

    def __enter__(self) -> Self:
        _ptrace(SEIZE, self.tid)
        _ptrace(INTERRUPT, self.tid)
        self._await_interrupt()
        self._memory = os.open(f"/proc/{self.tid}/mem", os.O_RDWR | os.O_CLOEXEC)
        self.registers = self._get_registers()
        self._vector = self._get_vector()
        self._mask = (ctypes.c_ulonglong * 1)()
        _ptrace(GETSIGMASK, self.tid, 8, ctypes.addressof(self._mask))
        # Faults must reach us; everything else waits in the kernel until we are gone.
        blocked = (1 << 64) - 1
        for number in (signal.SIGSEGV, signal.SIGTRAP, signal.SIGBUS, signal.SIGILL, signal.SIGFPE):
            blocked &= ~(1 << (number - 1))
        _ptrace(SETSIGMASK, self.tid, 8, ctypes.addressof((ctypes.c_ulonglong * 1)(blocked)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._memory)
        if kind is GoneError:
            return
        with contextlib.suppress(GoneError):
            self.restore()
            _ptrace(SETSIGMASK, self.tid, 8, ctypes.addressof(self._mask))
            _ptrace(DETACH, self.tid)

    @property
    def syscall(self) -> int:
        """Number of the system call that the thread was stopped in, -1 for none."""
        return ctypes.c_long(self.registers.orig_rax).value

    def restore(self) -> None:
        self._set_registers(self.registers)
        self._set_vector(self._vector)

    def read(self, address: int, size: int) -> bytes:
        return os.pread(self._memory, size, address)

    def write(self, address: int, data: bytes) -> None:
        os.pwrite(self._memory, data, address)

    def system_call(self, instruction: int, number: int, *arguments: int) -> int:
        """Makes the thread do a system call, by the `syscall` instruction at that address. Raises its OSError."""
        registers = self.registers.copy()
        registers.rip, registers.rax, registers.orig_rax = instruction, number, _NO_SYSCALL
        for name, value in zip(("rdi", "rsi", "rdx", "r10", "r8", "r9"), arguments, strict=False):
            setattr(registers, name, value & _NO_SYSCALL)
        self._set_registers(registers)
        _ptrace(SINGLESTEP, self.tid)
        stop = self._next_stop(SINGLESTEP, 5.0)
        if stop != signal.SIGTRAP:
            raise OSError(errno.EFAULT, f"system call {number} ended in signal {stop}")
        result = ctypes.c_long(self._get_registers().rax).value
        if -4096 < result < 0:
            raise OSError(-result, os.strerror(-result))
        return result

    def call(self, function: int, *arguments: int, patience: float | None = None) -> int:
        """Calls a C function with up to three integer arguments in the thread and returns its int result.

        Waits as long as it takes, unless `patience` in seconds is given: raises StuckError when the function then sits
        in a futex, waiting for a lock that it will not get. The caller must know that such a wait may be abandoned.
        """
        registers = self.registers.copy()
        # Below the red zone (128 bytes), aligned as at a function's first instruction; it returns to address 0.
        registers.rsp = ((self.registers.rsp - 1024) & ~15) - 8
        self.write(registers.rsp, struct.pack("<Q", 0))
        registers.rip, registers.rax, registers.orig_rax = function, 0, _NO_SYSCALL
        for name, value in zip(("rdi", "rsi", "rdx"), arguments, strict=False):
            setattr(registers, name, value)
        self._set_registers(registers)
        _ptrace(CONT, self.tid)
        stop = self._returned(patience)
        after = self._get_registers()
        if stop != signal.SIGSEGV or after.rip != 0:
            raise OSError(errno.EFAULT, f"call ended in signal {stop} at {after.rip:#x}")
        return ctypes.c_int(after.rax).value

    def _returned(self, patience: float | None) -> int:
        while True:
            try:
                return self._next_stop(CONT, patience)
            except TimeoutError:
                _ptrace(INTERRUPT, self.tid)
                stop, event = self._wait(None)
                if not event:
                    return stop  # it came back just now; the interrupt finds the thread gone from here
                if self._get_registers().orig_rax == FUTEX:
                    raise StuckError("the call waits for a lock that the thread itself may hold") from None
                _ptrace(CONT, self.tid)

    def _await_interrupt(self) -> None:
        """Waits for the stop that INTERRUPT makes; signals on their way to the thread before it are let through."""
        while True:
            stop, event = self._wait(5.0)
            if event and stop != signal.SIGTRAP:
                raise OSError(errno.EAGAIN, f"thread {self.tid} is stopped by a signal: continue it first")
            if event:
                return
            _ptrace(CONT, self.tid, 0, stop)

    def _next_stop(self, go_on: int, limit: float | None) -> int:
        """The signal that stopped the thread, passing over stops that have nothing to do with what it does for us.

        A SIGSTOP cannot be blocked. It takes effect on the other threads; this one goes on until it has returned.
        """
        while True:
            stop, event = self._wait(limit)
            if stop != signal.SIGSTOP and not event:
                return stop
            _ptrace(go_on, self.tid, 0, 0 if event else stop)

    def _wait(self, limit: float | None) -> tuple[int, int]:
        """Signal and ptrace event of the next stop. Raises TimeoutError and GoneError."""
        deadline = None if limit is None else time.monotonic() + limit
        for pause in _pauses():
            pid, status = os.waitpid(self.tid, WALL | os.WNOHANG)
            if pid:
                if not os.WIFSTOPPED(status):
                    raise GoneError(f"thread {self.tid} ended")
                return os.WSTOPSIG(status), status >> 16
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(pause)
        raise AssertionError("pauses never end")

    def _get_registers(self) -> Registers:
        registers = Registers()
        vector = _Vector(ctypes.addressof(registers), ctypes.sizeof(registers))
        _ptrace(GETREGSET, self.tid, NT_PRSTATUS, ctypes.addressof(vector))
        return registers

    def _set_registers(self, registers: Registers) -> None:
        vector = _Vector(ctypes.addressof(registers), ctypes.sizeof(registers))
        _ptrace(SETREGSET, self.tid, NT_PRSTATUS, ctypes.addressof(vector))

    def _get_vector(self) -> bytes:
        buffer = ctypes.create_string_buffer(XSTATE_SIZE)
        vector = _Vector(ctypes.addressof(buffer), XSTATE_SIZE)
        _ptrace(GETREGSET, self.tid, NT_X86_XSTATE, ctypes.addressof(vector))
        return buffer.raw[: vector.length]

    def _set_vector(self, state: bytes) -> None:
        buffer = ctypes.create_string_buffer(state, len(state))
        vector = _Vector(ctypes.addressof(buffer), len(state))
        _ptrace(SETREGSET, self.tid, NT_X86_XSTATE, ctypes.addressof(vector))


def _pauses() -> Iterator[float]:
    """Seconds between looks: waitpid has no time limit of its own, and the thread stops within microseconds."""
    for _ in range(50):
        yield 0.00002
    while True:
        yield 0.0005

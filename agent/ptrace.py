"""One stopped thread of another process, by ptrace(2): look at it, and send it on from where it is.

Whoever stops a thread may be killed while it does so: the kernel then lets the thread run on as it stands. So nothing
here is undone later; what a thread is sent to must come back by itself (`agent.machines`). All calls must come from
one thread of ours. Imports the standard library only: the injector runs without site-packages.
"""

import contextlib
import ctypes
import errno
import os
import signal
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

PEEKUSER, POKEUSER, CONT, DETACH, SYSCALL, GETSIGINFO = 3, 6, 7, 17, 24, 0x4202
GETREGSET, SETREGSET, SEIZE, INTERRUPT, GETSIGMASK, SETSIGMASK = 0x4204, 0x4205, 0x4206, 0x4207, 0x420A, 0x420B
SIGINFO = 128
"""Bytes of a siginfo_t."""
TRACESYSGOOD = 1
NT_PRSTATUS = 1
WALL = 0x40000000
_IMPOSSIBLE = 1 << 63
"""From here on an address is the kernel's, and no offset in a file."""
_AT_SYSCALL = signal.SIGTRAP | 0x80


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class GoneError(Exception):
    """The thread ended while it was traced."""


class StandsError(OSError):
    """The thread was stopped by a signal before."""


class SignalledError(Exception):
    """The thread is about to be delivered a signal, and will be as soon as it is let go."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, tid, address, data) == -1:
        number = ctypes.get_errno()
        if number == errno.ESRCH:
            raise GoneError(f"thread {tid} is gone")
        raise OSError(number, os.strerror(number))


class Stopped:
    """A context manager: the thread is stopped at its beginning, and untraced after its end.

    Raises PermissionError when the kernel forbids it, GoneError when the thread is gone.
    """

    def __init__(self, tid: int, registers: type[Any]) -> None:
        self.tid = tid
        self._kind = registers
        self._traced = False
        self._signal = 0

    def __enter__(self) -> Self:
        _ptrace(SEIZE, self.tid, 0, TRACESYSGOOD)
        self._traced = True
        try:
            self._stop()
            self._memory = os.open(f"/proc/{self.tid}/mem", os.O_RDWR | os.O_CLOEXEC)
        except BaseException:
            self.let_go()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._memory)
        self.let_go()

    def let_go(self) -> None:
        """The thread runs on, untraced."""
        if self._traced:
            self._traced = False
            with contextlib.suppress(GoneError):
                _ptrace(DETACH, self.tid, 0, self._signal)

    def read(self, address: int, size: int) -> bytes:
        """So many bytes. Raises OSError, also when some of them can be read."""
        found = os.pread(self._memory, size, address) if address < _IMPOSSIBLE else b""
        if len(found) != size:
            raise OSError(errno.EFAULT, f"{size} bytes cannot be read at {address:#x}")
        return found

    def write(self, address: int, data: bytes) -> None:
        """Also where the process itself may not write. Raises OSError."""
        if address >= _IMPOSSIBLE or os.pwrite(self._memory, data, address) != len(data):
            raise OSError(errno.EFAULT, f"{len(data)} bytes cannot be written at {address:#x}")

    def registers(self) -> Any:
        found = self._kind()
        vector = _Vector(ctypes.addressof(found), ctypes.sizeof(found))
        _ptrace(GETREGSET, self.tid, NT_PRSTATUS, ctypes.addressof(vector))
        return found

    def register_set(self, kind: int, most: int) -> bytes:
        """At most so many bytes of another set of registers (linux/elf.h); empty when it is not known here."""
        found = ctypes.create_string_buffer(most)
        vector = _Vector(ctypes.addressof(found), most)
        try:
            _ptrace(GETREGSET, self.tid, kind, ctypes.addressof(vector))
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENODEV, errno.EIO):
                raise
            return b""
        return found.raw[: vector.length]

    def send(self, registers: Any) -> None:
        """All general registers in one step: the thread goes on from there, with us or without."""
        vector = _Vector(ctypes.addressof(registers), ctypes.sizeof(registers))
        _ptrace(SETREGSET, self.tid, NT_PRSTATUS, ctypes.addressof(vector))

    def mask(self) -> int:
        """The signals that it blocks."""
        found = (ctypes.c_ulonglong * 1)()
        _ptrace(GETSIGMASK, self.tid, 8, ctypes.addressof(found))
        return found[0]

    def set_mask(self, mask: int) -> None:
        _ptrace(SETSIGMASK, self.tid, 8, ctypes.addressof((ctypes.c_ulonglong * 1)(mask)))

    def to_syscall(self, limit: float) -> bool:
        """Lets it run until a system call begins or ends; False when that takes longer, and it is stopped then.

        A SIGSTOP takes effect on the other threads; this one goes on until it is let go. Raises SignalledError when
        another signal is about to be delivered.
        """
        while True:
            _ptrace(SYSCALL, self.tid)
            try:
                stop, event = self._wait(limit)
            except TimeoutError:
                _ptrace(INTERRUPT, self.tid)
                stop, event = self._wait(5.0)
                if event:
                    return False
                # It stopped just now; what was asked for comes at its next step and is let through.
            if stop == _AT_SYSCALL:
                return True
            if not event:
                self._signal = stop
                raise SignalledError(stop)

    def _stop(self) -> None:
        _ptrace(INTERRUPT, self.tid)
        self._await_interrupt()

    def in_and_out(self, limit: float) -> bool:
        """For a thread that is about to make a system call: led into it, and out at once, as by a signal.

        Stopped at the end of it then, with its result or the kernel's own errors (linux/errno.h); False when that
        takes longer than `limit` seconds. Raises SignalledError.
        """
        if not self.to_syscall(limit):
            return False
        _ptrace(INTERRUPT, self.tid)
        return self.to_syscall(limit)

    def _await_interrupt(self) -> None:
        """Waits for the stop that INTERRUPT makes; signals on their way to the thread before it are let through."""
        while True:
            stop, event = self._wait(5.0)
            if event and stop != signal.SIGTRAP:
                raise StandsError(errno.EAGAIN, f"thread {self.tid} is stopped by a signal: continue it first")
            if event:
                return
            _ptrace(CONT, self.tid, 0, stop)

    def _wait(self, limit: float) -> tuple[int, int]:
        """Signal and ptrace event of the next stop. Raises TimeoutError and GoneError."""
        deadline = time.monotonic() + limit
        for pause in _pauses():
            pid, status = os.waitpid(self.tid, WALL | os.WNOHANG)
            if pid:
                if not os.WIFSTOPPED(status):
                    self._traced = False
                    raise GoneError(f"thread {self.tid} ended")
                return os.WSTOPSIG(status), status >> 16
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(pause)
        raise AssertionError("pauses never end")


class Halted(Stopped):
    """A thread that a stop signal has stopped: as long as that lasts for the process, it is stopped after the end too.

    What only a tracer's request sets back it is free of then: single steps that another tracer left behind.
    """

    def next_signal(self, limit: float) -> bytes:
        """Has it take the signal that waits for it: its siginfo_t, before anything came of it; empty for none."""
        _ptrace(CONT, self.tid)
        try:
            stop, event = self._wait(limit)
        except TimeoutError:
            _ptrace(INTERRUPT, self.tid)
            stop, event = self._wait(5.0)
        self._signal = 0 if event else stop
        found = ctypes.create_string_buffer(SIGINFO)
        if not event:
            _ptrace(GETSIGINFO, self.tid, 0, ctypes.addressof(found))
        return b"" if event else found.raw

    def forget_signal(self) -> None:
        """It never gets what `next_signal` gave."""
        self._signal = 0

    def user(self, offset: int) -> int:
        """A word of its struct user (<sys/user.h>)."""
        ctypes.set_errno(0)
        found = _libc.ptrace(PEEKUSER, self.tid, offset, 0)
        if ctypes.get_errno():
            raise OSError(ctypes.get_errno(), f"struct user of {self.tid} at {offset}")
        return int(found)

    def set_user(self, offset: int, word: int) -> None:
        _ptrace(POKEUSER, self.tid, offset, word)

    def _stop(self) -> None:
        self._wait(5.0)


def _pauses() -> Iterator[float]:
    """Seconds between looks: waitpid has no time limit of its own, and the thread stops within microseconds."""
    for _ in range(50):
        yield 0.00002
    while True:
        yield 0.0005

"""What the injector must know of a processor: registers, system calls, and the code that a thread is sent through.

One module an architecture, of the name that uname(2) has for it. Standard library only: the injector runs without
site-packages.
"""

import ctypes
import os
from typing import Any, Protocol

from agent.machines import aarch64, x86_64
from agent.machines.job import BadMomentError, Job, RefusedError
from agent.ptrace import Stopped

__all__ = ["BadMomentError", "Job", "Machine", "RefusedError", "this"]


class Machine(Protocol):
    """One architecture."""

    CODE: bytes
    """What a thread is sent through. It is the same in each process, and begins with a sign to know it by."""
    ENTRY: int
    """Where in CODE the thread goes in."""
    BLOCKED: int
    """The signals that are blocked meanwhile, which also tells a thread on a detour from all others."""
    STACK: int
    """Bytes of the thread's stack, at most, that CODE uses besides the source."""
    FUTEX: frozenset[int]
    """System calls that wait for a lock, or may: also restart_syscall, which does not say what it goes on with."""
    BLOCKING: frozenset[int]
    """System calls that may last, in which a thread holds no lock of the C library."""
    Registers: type[ctypes.Structure]

    def refusal(self) -> str:
        """Why this machine cannot be worked on, or an empty string."""

    def look(self, thread: Stopped) -> Any:
        """The state of a thread that has just been stopped. Raises BadMomentError, RefusedError, SignalledError."""

    def registers(self, state: Any) -> Any:
        """The general ones."""

    def syscall(self, state: Any) -> int:
        """Number of the system call that the thread was stopped in, -1 for none."""

    def asleep(self, state: Any) -> bool:
        """Whether the stop has woken it: not when it ran, or was through with its system call."""

    def stack(self, state: Any) -> int:
        """The stack pointer."""

    def within(self, registers: Any, code: int) -> bool:
        """Whether the thread is on a detour, through CODE at `code`."""

    def detour(self, state: Any, code: int, job: Job) -> tuple[Any, int, bytes]:
        """Registers that send a stopped thread through CODE at `code`; what must lie on its stack first, and where."""

    def signalled(self, thread: Stopped, state: Any, at: int, number: int) -> bool:
        """A signal has come before anything else was done: it is to find the thread where it was.

        True: the thread is sent back there. False: it goes on with its detour, and the signal has the same effect on
        an interrupted system call. `at`: where its block lies.
        """

    def locked(self, thread: Stopped) -> bool:
        """Whether a thread that was stopped on its detour waits for a lock."""

    def give_up(self, thread: Stopped, state: Any, code: int, at: int) -> None:
        """Sends a thread back from the middle of what CODE calls."""

    def stage(self, registers: Any) -> str:
        """At a stop by a system call of CODE itself: `mapped`, `leaving` or an empty string."""

    def mapped(self, registers: Any) -> bool:
        """At `mapped`: whether there is a page for the source; else `leaving` follows."""

    def outcome(self, registers: Any) -> int:
        """At `leaving`: 0 when the job is done or queued, -1 when the queue is full, else -errno."""


_KNOWN: dict[str, Machine] = {"x86_64": x86_64.X86(), "aarch64": aarch64.Aarch64()}


def this() -> Machine | None:
    """The machine that this runs on, None when it is not known here."""
    return _KNOWN.get(os.uname().machine)

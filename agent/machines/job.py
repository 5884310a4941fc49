"""What a thread is sent to do, and what it is taken from; and why it is not."""

import signal
from dataclasses import dataclass

_FAULTS = (signal.SIGILL, signal.SIGTRAP, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV)
_KERNELS_OWN = (signal.SIGKILL, signal.SIGSTOP)
BLOCKED = (1 << 64) - 1 & ~sum(1 << (number - 1) for number in (*_FAULTS, *_KERNELS_OWN))
"""The signals that a thread blocks on its detour: a fault that is blocked would end the process unheard."""


class RefusedError(Exception):
    """This cannot be done; `reason` is the value of a `squash.reasons.Reason`."""

    def __init__(self, reason: str, message: str, *, other_way: bool = False) -> None:
        """`other_way`: gdb may still be able to."""
        self.reason = reason
        self.other_way = other_way
        super().__init__(message)


class BadMomentError(Exception):
    """The thread must not be disturbed where it is just now."""


@dataclass(frozen=True)
class Job:
    """Source to be run, and where the functions for it lie in the process."""

    source: bytes
    ensure: int
    run: int
    release: int
    pending: int
    now: bool = False
    """At once, under PyGILState_Ensure, instead of as a pending call."""

    @property
    def page(self) -> int:
        """Bytes of the process's memory that the source takes, for as long as it is needed."""
        return (16 + len(self.source) + 1 + 4095) & ~4095

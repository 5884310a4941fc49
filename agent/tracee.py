"""Holding back the end of another program's thread (ptrace(2), PTRACE_O_TRACEEXIT), to do something just before it.

A debugger that is killed lets go of what it debugs in the same breath. Its thread that traces stops here first, also
at SIGKILL. Imports the standard library only: guards run without site-packages.
"""

import contextlib
import ctypes
import os
from collections.abc import Callable

_CONT, _SEIZE, _LISTEN = 7, 0x4206, 0x4208
_TRACE_EXIT = 0x40
_EXIT, _STOP = 6, 128
"""Events: it is about to end; it takes part in a stop of the whole program."""
_WALL = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


class Tracee:
    """One thread; what it is sent reaches it as if nobody were there."""

    def __init__(self, tid: int, ending: Callable[[], None]) -> None:
        """`ending` is called while it stands at its end. Raises OSError when the kernel does not let us."""
        self._tid = tid
        self._ending = ending
        self.gone = False
        self.status: int | None = None
        """Its exit status, negative for a signal, once it is gone."""
        if _libc.ptrace(_SEIZE, tid, None, _TRACE_EXIT) == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def attend(self) -> None:
        """To be called after each SIGCHLD."""
        while not self.gone:
            try:
                pid, status = os.waitpid(self._tid, _WALL | os.WNOHANG)
            except ChildProcessError:
                self.gone = True
                return
            if not pid:
                return
            if os.WIFSTOPPED(status):
                self._stopped(os.WSTOPSIG(status), status >> 16)
            else:
                self.gone = True
                self.status = os.waitstatus_to_exitcode(status)

    def _stopped(self, number: int, event: int) -> None:
        if event == _EXIT:
            self._ending()
        if event == _STOP and number in (19, 20, 21, 22):
            self._go(_LISTEN, 0)
        else:
            self._go(_CONT, 0 if event else number)

    def _go(self, request: int, number: int) -> None:
        with contextlib.suppress(OSError):
            _libc.ptrace(request, self._tid, None, number)

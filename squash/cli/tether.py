"""A program that squashctl starts does not outlive it, and neither do its files, also when squashctl is killed."""

import contextlib
import ctypes
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from squash import procfs
from squash.private import private_directory
from squash.settings import runtime_home

_SET_PDEATHSIG = 1
"""prctl(2)."""
_NAME = re.compile(r"(\d+)-(\d+)-(\d+)")
_libc = ctypes.CDLL(None)


def tether() -> Callable[[], None]:
    """What a child has to do between fork and exec: from then on it gets SIGTERM when the thread that forked ends.

    So it is for children of the main thread.
    """
    parent = os.getpid()

    def tie() -> None:
        _libc.prctl(_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it ended before it could be heard of
            os._exit(1)

    return tie


@contextlib.contextmanager
def files() -> Iterator[Path]:
    """A directory for a program's files. Those that a squashctl which was killed has left go, too.

    Raises SettingError.
    """
    base = runtime_home() / "programs"
    private_directory(base)
    _clear(base)
    own = procfs.stat(os.getpid())
    path = base / f"{os.getpid()}-{own.start_time if own else 0}-{_namespace()}"
    path.mkdir(mode=0o700, exist_ok=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _clear(base: Path) -> None:
    """Nobody else can have made what lies there. Pids of other containers that share the place say nothing here."""
    for path in base.iterdir():
        if found := _NAME.fullmatch(path.name):
            pid, start_time, namespace = map(int, found.groups())
            if namespace == _namespace() and not procfs.alive(pid, start_time):
                shutil.rmtree(path, ignore_errors=True)


def _namespace() -> int:
    return (procfs.PROC / "self/ns/pid").stat().st_ino

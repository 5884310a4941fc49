"""Where in a process's file system a directory of ours may stand, and what such a place offers."""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from agent import beneath
from agent.process import Process
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason

HOMES = ("/dev", "/run", "/tmp")  # noqa: S108 - what we make in there is root's alone
"""In the order in which they are tried."""
NAME = "squash"
"""Of the directory in there that all attachments share."""
NOT_OURS = f"{NAME} in there is not ours"
_NO_TRIAL = (errno.EOPNOTSUPP, errno.EISDIR)
"""File systems that know no files without a name say so by one of these (open(2))."""
_ROOT = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True)
class Room:
    """What a directory in a process's file system offers."""

    obstacle: str
    """Why no directory of ours can be made in there; empty when it can."""
    executable: bool
    """Whether programs in there may be executed, as libraries must be."""
    free: int
    """Bytes."""

    def lacks(self, files: int) -> str:
        """What it lacks for so many bytes of programs, if any."""
        if self.obstacle or not files:
            return self.obstacle
        if not self.executable:
            return "mounted noexec"
        return "no space left" if self.free < files else ""


def room(process: Process, home: str) -> Room:
    """What this one of HOMES offers in the process's file system. Only looks."""
    try:
        place = home_of(process, home)
    except SquashError as error:
        return Room(error.message, executable=False, free=0)
    except OSError as error:
        return Room(error.strerror or str(error), executable=False, free=0)
    try:
        found = offer(place)
        return found if found.obstacle else Room(_trial(place), found.executable, found.free)
    except OSError as error:
        return Room(error.strerror or str(error), executable=False, free=0)
    finally:
        os.close(place)


def _trial(place: int) -> str:
    """Why a directory cannot be made there."""
    try:
        facts = os.stat(NAME, dir_fd=place, follow_symlinks=False)
        with beneath.walk(place, NAME):
            return "" if facts.st_uid == os.geteuid() else NOT_OURS
    except FileNotFoundError:
        pass
    except OSError:
        return NOT_OURS
    try:
        # A file without a name, which is gone when it is closed: what could be made, can be.
        os.close(os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=place))
    except OSError as error:
        if error.errno == errno.EOVERFLOW:
            return "the agent's user has no number in the container's user namespace"
        return "" if error.errno in _NO_TRIAL else error.strerror or str(error)
    return ""


def offer(place: int) -> Room:
    """What it offers, going by its file system alone. Raises OSError."""
    facts = os.fstatvfs(place)
    obstacle = "mounted read-only" if facts.f_flag & os.ST_RDONLY else ""
    return Room(obstacle, not facts.f_flag & os.ST_NOEXEC, facts.f_bavail * facts.f_frsize)


def home_of(process: Process, home: str) -> int:
    """A descriptor of one of HOMES as the process sees it. Raises OSError, SquashError."""
    root = os.open(process.root, _ROOT)
    try:
        # Its pid may be another's by now, and the root another container's.
        if not process.alive:
            raise SquashError(Reason.PROCESS_GONE, f"process {process.pid} is gone")
        return os.open(home.removeprefix("/"), _ROOT | os.O_NOFOLLOW, dir_fd=root)
    finally:
        os.close(root)


def same_root(process: Process) -> bool:
    """Whether the process sees the files that the agent sees, under the same names."""
    try:
        ours, theirs = Path("/").stat(), (process.root / ".").stat()
    except OSError:
        return True  # nothing can be put there anyway: what comes next says why
    same_namespace = procfs.namespace(process.pid, "mnt") in ("", procfs.namespace(os.getpid(), "mnt"))
    return same_namespace and (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)

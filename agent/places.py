"""Where on disk an agent keeps sockets and notes: a directory of its own, found again after a crash.

RUNTIME_DIR/            0711: targets of other users must reach what is theirs inside
  identity              who this agent is, across restarts; locked while it runs
  lease                 empty; changed whenever the coordinator renewed the agent's lease, for health checks
  client/               0700: the sockets that clients connect to
  target/ID/            one attachment each; what the debugger and its target need
  target/ID.debugger    the debugger's name, for whoever must clean up
  target/ID.inside      where in a container its files are; beside the directory, which may be its target's user's
  target/ID.woken       a process in which a port is open just now
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from squash.errors import SettingError, SquashError
from squash.private import private_directory
from squash.reasons import Reason

LONGEST = 76
"""Bytes of the directory's path: with what comes below, a unix socket's path may have 107 (unix(7))."""
_IDENTITY = re.compile(rb"[0-9a-f]{16}")


@dataclass(frozen=True)
class Place:
    """The directory of one attachment's debugger, and the path of the socket for its clients."""

    debugger: str
    directory: Path
    socket: Path


class Places:
    def __init__(self, root: Path) -> None:
        """Takes the directory for this process. Raises SettingError when it cannot, or when another agent has it."""
        root = root.absolute()
        self._root = root
        if len(os.fsencode(root)) > LONGEST:
            raise SettingError(f"runtime_dir = '{root}' cannot be used: longer than {LONGEST} bytes")
        try:
            for directory, mode in ((root, 0o711), (root / "client", 0o700), (root / "target", 0o711)):
                private_directory(directory, mode)
                directory.chmod(mode)
            self._lock = os.open(root / "identity", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (OSError, SettingError) as error:
            raise SettingError(f"runtime_dir = '{root}' cannot be used: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingError(
                f"runtime_dir = '{root}' is in use by another agent: give this one a directory of its own"
            ) from None
        try:
            self.identity = self._identify()
        except OSError as error:
            os.close(self._lock)
            raise SettingError(f"runtime_dir = '{root}' cannot be written: {error.strerror}") from error

    def make(self, debugger: str) -> Place:
        """A new place. Raises SquashError when none can be made; nothing of it is left then."""
        place = self._place(debugger, secrets.token_hex(4))
        try:
            place.directory.with_suffix(".debugger").write_text(debugger)
            place.directory.mkdir(mode=0o700)
        except OSError as error:
            self.remove(place)
            raise unwritable(place.directory, error) from error
        return place

    def remove(self, place: Place) -> None:
        """What cannot be removed, as where nothing can be written any more, is left to the next life."""
        shutil.rmtree(place.directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            place.socket.unlink(missing_ok=True)
            # The debugger's name last: by it the rest is found again.
            for note in (".inside", ".woken", ".debugger"):
                place.directory.with_suffix(note).unlink(missing_ok=True)

    def left_behind(self) -> Iterator[Place]:
        """The places of an earlier life."""
        for note in sorted((self._root / "target").glob("*.debugger")):
            yield self._place(note.read_text(), note.stem)

    def heard(self) -> None:
        """Notes for whoever looks from outside that the coordinator hears of this agent."""
        # Where that cannot be written, whoever looks learns that something is wrong with this agent; so it is.
        with contextlib.suppress(OSError):
            (self._root / "lease").touch()

    def close(self) -> None:
        os.close(self._lock)

    def _place(self, debugger: str, name: str) -> Place:
        return Place(debugger, self._root / "target" / name, self._root / "client" / f"{name}.sock")

    def _identify(self) -> str:
        """Raises OSError."""
        known = os.pread(self._lock, 64, 0)
        # A disk that was full, or a machine that went down, may have left anything.
        if not _IDENTITY.fullmatch(known):
            known = secrets.token_hex(8).encode()
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, known, 0)
        return known.decode()


def unwritable(path: Path, error: OSError) -> SquashError:
    """For what could not be written below the agent's directory."""
    return SquashError(Reason.RUNTIME_DIR, f"'{path}' cannot be written: {error.strerror}")

"""A directory that a process can reach, wherever it lives: the agent's own, or one inside the process's container.

A container's /dev is a file system of its own in memory, also when the root is read-only, and no other container sees
it. What is put there is named in notes on the agent's side, so that it is taken away after a crash as well.
"""

import contextlib
import errno
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from agent.process import Process
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason

HOMES = ("/dev", "/run", "/tmp")  # noqa: S108 - what we make in there is root's alone
"""Where a directory of ours may stand in a container, in the order in which they are tried."""
NAME = "squash"
_NOTES = "inside.json"
_SPARE = 8 * 1024 * 1024
"""Bytes that a file system must have free for a debugger's files."""
_NOT_OURS = f"{NAME} in there is not ours"
_NO_TRIAL = (errno.EOPNOTSUPP, errno.EISDIR)
"""File systems that know no files without a name say so by one of these (open(2))."""
_turn = threading.Lock()
"""One at a time puts files into containers or takes them away: the last one out removes what they share."""


@dataclass(frozen=True)
class Inner:
    """One directory under its two names. Its methods block: milliseconds, and a copy of megabytes in `provide`."""

    own: Path
    """The attachment's directory on the agent's side."""
    inside: str
    """As the process sees it."""
    mount: str = ""
    """The mount namespace that it stands in; empty when that is the agent's."""
    pid: int = 0
    """A process in that namespace."""

    @classmethod
    def make(cls, process: Process, own: Path) -> Self:
        """A directory for one attachment: `own`, which exists, unless the process lives in another file system.

        Raises SquashError when there is no place in the container.
        """
        if same_root(process):
            return cls(own, str(own))
        mount = procfs.namespace(process.pid, "mnt")
        tried = []
        for home in HOMES:
            made = cls(own, f"{home}/{NAME}/{own.name}", mount, process.pid)
            (own / _NOTES).write_text(json.dumps({"mount": mount, "inside": made.inside}))
            try:
                with _turn:
                    made._make()
            except OSError as error:
                tried.append(f"{home}: {error.strerror}")
            else:
                return made
        message = f"no directory for the debugger can be made in the container of process {process.pid}"
        raise SquashError(Reason.FILES_UNREADABLE, f"{message} ({'; '.join(tried)})")

    @classmethod
    def left_behind(cls, own: Path) -> Self | None:
        """What an earlier life of the agent put into a container, by its notes; None when it is gone or never was."""
        try:
            notes = json.loads((own / _NOTES).read_text())
            mount, inside = str(notes["mount"]), str(notes["inside"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        pid = _somebody_in(mount)
        return cls(own, inside, mount, pid) if pid else None

    @property
    def outside(self) -> Path:
        """As the agent sees it. It goes through a process, and is good as long as that lives."""
        return self._seen(self.inside) if self.mount else self.own

    def provide(self, package: Path, name: str, contents: Callable[[], Iterable[tuple[Path, bytes]]]) -> str:
        """A directory of program files where the process can read it; returns its path inside. Raises SquashError.

        In a container, `contents` is put into a directory `name` beside the attachments' own, for all of them, and
        always at the same path: a process keeps what it has loaded.
        """
        if not self.mount:
            return str(package)
        inside = f"{self.inside.rpartition('/')[0]}/{name}"
        place = self._seen(inside)
        try:
            with _turn:
                for file, data in contents():
                    if not (place / file).exists():
                        _write(place / file, data)
        except OSError as error:
            raise SquashError(
                Reason.FILES_UNREADABLE, f"'{package}' cannot be copied to '{inside}': {error}"
            ) from error
        return inside

    def thin(self, inside: str, files: Iterable[str]) -> None:
        """Takes out what a process has read of a provided directory, unless there is another to read it. Never raises.

        The names are the process's word, so nothing outside the directory is touched.
        """
        if not self.mount:
            return
        with _turn, contextlib.suppress(OSError):
            if [entry for entry in self.outside.parent.iterdir() if _is_attachment(entry)] == [self.outside]:
                place = self._seen(inside)
                for file in files:
                    if not {"..", ""} & set(file.split("/")):
                        (place / file).unlink(missing_ok=True)

    def remove(self) -> None:
        """Takes everything out of the container again, unless another attachment needs it. Never raises."""
        if not self.mount:
            return
        with _turn, contextlib.suppress(OSError):
            outside = self.outside
            if not outside.parent.is_dir() and (pid := _somebody_in(self.mount)):
                outside = procfs.PROC / str(pid) / "root" / self.inside.removeprefix("/")
            shutil.rmtree(outside, ignore_errors=True)
            # A package's name has letters that no attachment's, which is of hex digits, can have.
            if not any(_is_attachment(entry) for entry in outside.parent.iterdir()):
                shutil.rmtree(outside.parent, ignore_errors=True)

    def _seen(self, inside: str) -> Path:
        return procfs.PROC / str(self.pid) / "root" / inside.removeprefix("/")

    def _make(self) -> None:
        outside = self.outside
        if found := _obstacle(outside.parent.parent):
            raise OSError(0, found)
        with contextlib.suppress(FileExistsError):
            outside.parent.mkdir(mode=0o755)
        if not _is_ours(outside.parent):
            raise OSError(0, _NOT_OURS)
        outside.parent.chmod(0o755)
        outside.mkdir(mode=0o700)


def obstacle(process: Process, home: str) -> str:
    """Why no directory of ours can be made in this one of HOMES in the process's file system; empty when it can."""
    place = procfs.PROC / str(process.pid) / "root" / home.removeprefix("/")
    try:
        if found := _obstacle(place):
            return found
        if (place / NAME).is_symlink() or (place / NAME).exists():
            return "" if _is_ours(place / NAME) else _NOT_OURS
        # A file without a name, which is gone when it is closed: what could be made, can be.
        os.close(os.open(place, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        if error.errno == errno.EOVERFLOW:
            return "the agent's user has no number in the container's user namespace"
        return "" if error.errno in _NO_TRIAL else error.strerror or str(error)
    return ""


def _obstacle(place: Path) -> str:
    """Raises OSError when it is not there."""
    facts = os.statvfs(place)
    if facts.f_flag & os.ST_RDONLY:
        return "mounted read-only"
    if facts.f_flag & os.ST_NOEXEC:
        return "mounted noexec"
    return "no space left" if facts.f_bavail * facts.f_frsize < _SPARE else ""


def _is_ours(place: Path) -> bool:
    return not place.is_symlink() and place.stat().st_uid == os.geteuid()


def same_root(process: Process) -> bool:
    """Whether the process sees the files that the agent sees, under the same names."""
    try:
        ours, theirs = Path("/").stat(), (process.root / ".").stat()
    except OSError:
        return True  # nothing can be put there anyway: what comes next says why
    same_namespace = procfs.namespace(process.pid, "mnt") in ("", procfs.namespace(os.getpid(), "mnt"))
    return same_namespace and (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def _somebody_in(mount: str) -> int:
    return next((pid for pid in procfs.pids() if procfs.namespace(pid, "mnt") == mount), 0)


def _is_attachment(entry: Path) -> bool:
    return len(entry.name) == 8 and all(digit in "0123456789abcdef" for digit in entry.name)


def _write(file: Path, data: bytes) -> None:
    """All of it or nothing: who is killed meanwhile leaves no half of a file to be taken for the whole."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}")
    fresh.write_bytes(data)
    fresh.rename(file)

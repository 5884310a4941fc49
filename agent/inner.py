"""A directory that a process can reach, wherever it lives: the agent's own, or one inside the process's container.

A container's /dev is a file system of its own in memory, also when the root is read-only, and no other container sees
it. What is put there is named in notes on the agent's side, so that it is taken away after a crash as well. Nothing
that the process's user was given is trusted, and nothing that a container says a name means (`agent.beneath`).
"""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from weakref import WeakValueDictionary

from agent import beneath
from agent.denied import refused
from agent.homes import HOMES, NAME, NOT_OURS, home_of, offer, same_root
from agent.places import unwritable
from agent.preflight.needs import Capability
from agent.process import Process
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason

_INTO = Capability.SYS_PTRACE, Capability.DAC_OVERRIDE
"""What it takes to look into a container, and to make something in a directory there of another user."""
_turns: WeakValueDictionary[str, threading.Lock] = WeakValueDictionary()
"""By mount namespace, one at a time puts files there or takes them away: the last one out removes what they share."""
_turns_turn = threading.Lock()


class Inner:
    """One directory under its two names. All methods block: milliseconds, and a copy of megabytes in `provide`.

    Descriptors are kept until `remove`, so it stays the same one whatever becomes of the process, and of its names.
    """

    def __init__(self, process: Process, own: Path) -> None:
        """`own`: the attachment's directory on the agent's side, which exists. Makes nothing yet."""
        self.own = own
        self.mount = "" if same_root(process) else procfs.namespace(process.pid, "mnt")
        """The mount namespace that it stands in; empty when that is the agent's."""
        self.inside = str(own)
        """As the process sees it."""
        self._process = process
        self._turn = _turn(self.mount or str(own))
        self._home = self._directory = -1
        self._provided: set[str] = set()
        self._removed = False

    def make(self, files: int = 0) -> None:
        """Makes it, where `files` bytes of programs fit in besides. Raises SquashError when there is no place."""
        with self._turn:
            if self._removed:
                raise SquashError(Reason.ATTACH_TIMEOUT, "given up before anything was made")
            if not self.mount:
                self._directory = os.open(self.own, beneath.DIRECTORY)
                return
            tried, denied = [], False
            for home in HOMES:
                self._note_that(home)
                try:
                    self._make(home, files)
                except OSError as error:
                    tried.append(f"{home}: {error.strerror}")
                    denied |= isinstance(error, PermissionError)
                else:
                    return
        message = f"no directory for the debugger can be made in the container of process {self._process.pid}"
        message = f"{message} ({'; '.join(tried)})"
        raise refused(message, *_INTO) if denied else SquashError(Reason.FILES_UNREADABLE, message)

    def write(self, name: str, data: bytes) -> None:
        """A new file of the process's user's, who alone may read it. Raises SquashError."""
        try:
            made = os.open(name, beneath.NEW, 0o600, dir_fd=self._directory)
            with os.fdopen(made, "wb") as file:
                file.write(data)
                self._give(name, made)
        except OSError as error:
            message = f"'{self.inside}/{name}' cannot be written for process {self._process.pid}: {error.strerror}"
            if isinstance(error, PermissionError):
                raise refused(message, *_INTO) from error
            if not self.mount:
                raise unwritable(self.own / name, error) from error
            raise SquashError(Reason.FILES_UNREADABLE, message) from error

    def door(self, name: str) -> socket.socket:
        """A socket bound in there; the whole directory becomes the process's user's. Raises SquashError, OSError.

        Nothing can be written afterwards: that user decides then what the names in it mean.
        """
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # It is born with the mode that the socket has (net/unix/af_unix.c): no name is looked up for that.
            os.fchmod(made.fileno(), 0o600)
            made.bind(f"/proc/self/fd/{self._directory}/{name}")
            self._give(name, -1)
            self._give(".", self._directory)
        except BaseException:
            made.close()
            raise
        return made

    def withdraw(self, name: str) -> None:
        """Takes out a file of `write`'s that is not wanted any more. Never raises."""
        with self._turn, contextlib.suppress(OSError):
            beneath.unlink(self._directory, name)

    def provide(self, package: Path, name: str, contents: Callable[[], Iterable[tuple[Path, bytes]]]) -> str:
        """A directory of program files where the process can read it; returns its path inside. Raises SquashError.

        In a container, `contents` is put into a directory `name` beside the attachments' own, for all of them, and
        always at the same path: a process keeps what it has loaded. What no attachment needs is not trusted: it is
        of another life, or not ours. `contents` itself may take seconds, and nobody else waits for it.
        """
        if not self.mount:
            return str(package)
        inside = f"{self.inside.rpartition('/')[0]}/{name}"
        files = contents()
        try:
            with self._turn, self._shared() as shared:
                if self._alone(shared):
                    beneath.clear(shared, name)
                for file, data in files:
                    with beneath.walk(shared, f"{name}/{file.parent}", make=True) as place:
                        if not beneath.is_file(place, file.name):
                            beneath.put(place, file.name, data)
                    self._provided.add(str(file))
        except OSError as error:
            raise SquashError(
                Reason.FILES_UNREADABLE, f"'{package}' cannot be copied to '{inside}': {error}"
            ) from error
        return inside

    def thin(self, name: str, files: Iterable[str]) -> None:
        """Takes out what a process has read of a provided directory, unless there is another to read it. Never raises.

        The names are the process's word, so they must be among those that were put in.
        """
        with self._turn, contextlib.suppress(OSError), self._shared() as shared:
            if not self._alone(shared):
                return
            for file in self._provided.intersection(files):
                directory, _, last = f"{name}/{file}".rpartition("/")
                with contextlib.suppress(OSError), beneath.walk(shared, directory) as place:
                    beneath.unlink(place, last)

    def remove(self) -> None:
        """Takes out everything again, unless another attachment needs it. Idempotent; never raises."""
        with self._turn:
            self._removed = True
            if self._home >= 0:
                _take_out(self._home, self.own.name)
            elif self._directory >= 0:
                beneath.empty(self._directory)
            for descriptor in (self._home, self._directory):
                if descriptor >= 0:
                    os.close(descriptor)
            self._home = self._directory = -1

    def _note_that(self, home: str) -> None:
        """That something may stand there from now on. Raises SquashError."""
        try:
            _note(self.own).write_text(json.dumps({"mount": self.mount, "home": home}))
        except OSError as error:
            raise unwritable(_note(self.own), error) from error

    def _make(self, home: str, files: int) -> None:
        """Raises OSError."""
        place = home_of(self._process, home)
        try:
            if found := offer(place).lacks(files):
                raise OSError(0, found)
            with beneath.walk(place, NAME, make=True) as shared:
                if os.fstat(shared).st_uid != os.geteuid():
                    raise OSError(0, NOT_OURS)
                os.fchmod(shared, beneath.PASSABLE)
                os.mkdir(self.own.name, 0o700, dir_fd=shared)
                self._directory = os.open(self.own.name, beneath.DIRECTORY, dir_fd=shared)
        except OSError:
            os.close(place)
            raise
        self._home, self.inside = place, f"{home}/{NAME}/{self.own.name}"

    def _shared(self) -> contextlib.AbstractContextManager[int]:
        if self._home < 0:
            raise FileNotFoundError(NAME)
        return beneath.walk(self._home, NAME)

    def _alone(self, shared: int) -> bool:
        return not any(_is_attachment(name) and name != self.own.name for name in beneath.names(shared))

    def _give(self, name: str, descriptor: int) -> None:
        """Makes the process's user the owner; without a descriptor of the name itself. Raises SquashError, OSError."""
        uid, gid = self._process.uid, self._process.gid
        if uid == os.geteuid():
            return
        try:
            if descriptor >= 0:
                os.fchown(descriptor, uid, gid)
            else:
                os.chown(name, uid, gid, dir_fd=self._directory, follow_symlinks=False)
        except PermissionError as error:
            what = f"'{self.inside}/{name}' cannot be given to user {uid} of process {self._process.pid}"
            raise refused(f"{what}: {error.strerror}", Capability.CHOWN) from error


def take_out_left_behind(own: Path) -> None:
    """Removes what an earlier life of the agent put into a container, by its notes. Never raises."""
    try:
        notes = json.loads(_note(own).read_text())
        mount, home = str(notes["mount"]), str(notes["home"])
    except (OSError, ValueError, KeyError, TypeError):
        return
    if home not in HOMES:
        return
    with _turn(mount):
        # All of them: one may have a root of its own in there.
        for process in filter(None, map(Process.read, _those_in(mount))):
            with contextlib.suppress(OSError, SquashError):
                place = home_of(process, home)
                try:
                    _take_out(place, own.name)
                finally:
                    os.close(place)


def _take_out(home: int, name: str) -> None:
    """Removes an attachment's directory, and what all share after the last one. Never raises."""
    with contextlib.suppress(OSError):
        with beneath.walk(home, NAME) as shared:
            beneath.clear(shared, name)
            # A package's name has letters that no attachment's, which is of hex digits, can have.
            last = not any(map(_is_attachment, beneath.names(shared)))
        if last:
            beneath.clear(home, NAME)


def _those_in(mount: str) -> list[int]:
    return [pid for pid in procfs.pids() if procfs.namespace(pid, "mnt") == mount]


def _turn(place: str) -> threading.Lock:
    with _turns_turn:
        return _turns.setdefault(place, threading.Lock())


def _note(own: Path) -> Path:
    """Beside the directory, which may be the process's user's."""
    return own.with_suffix(".inside")


def _is_attachment(name: str) -> bool:
    return len(name) == 8 and all(digit in "0123456789abcdef" for digit in name)

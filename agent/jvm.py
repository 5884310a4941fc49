"""Asking a HotSpot JVM something by its attach protocol, from outside its container.

A file named .attach_pidN in the JVM's working directory or in its /tmp, owned by its user, and SIGQUIT make it listen
on the unix socket /tmp/.java_pidN; N is its pid as it sees it. (Source: HotSpot's attachListener_posix.cpp.)
"""

import contextlib
import os
import signal
import socket
import stat
import struct
import time
from collections.abc import Iterator

from agent import signals
from agent.bounded import Bounded
from agent.jvmwords import words
from agent.process import Process
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason

WAKE = 5.0
"""Seconds for the JVM to listen; it does so at its next safe point."""
LOOK = 0.002
"""Seconds between two looks whether it does: nothing tells."""
ANSWER = 5.0
"""Seconds for a connection and its answer."""
ARGUMENTS = 3
"""Of an operation, always."""
_MOST = 1_048_576
"""Bytes of an answer; what the agent asks for takes a few hundred."""
_PEER = struct.Struct("=3i")


def ask(process: Process, command: str, *arguments: str) -> str:
    """The answer to an operation of the attach protocol, such as `jcmd`. Blocks. Raises SquashError."""
    try:
        with _temporary(process) as directory, _line(process, directory) as line:
            question = ["1", command, *arguments, *[""] * (ARGUMENTS - len(arguments))]
            line.sendall(b"".join(word.encode() + b"\0" for word in question))
            return _read(line)
    except OSError as error:
        message = f"the JVM {process.pid} cannot be asked by its attach protocol: {error}"
        raise SquashError(Reason.ATTACH_FAILED, message) from error


def check(process: Process) -> None:
    """Raises SquashError when it could not be asked. Only looks."""
    with _temporary(process) as directory:
        if not _listens(directory, _own(process)):
            _check(process)


def _own(process: Process) -> str:
    """Its pid as it sees it."""
    return (procfs.status(process.pid) or {}).get("NSpid", str(process.pid)).split()[-1]


@contextlib.contextmanager
def _temporary(process: Process) -> Iterator[int]:
    """The JVM's /tmp, as a descriptor: its socket stands nowhere else. Raises OSError, SquashError."""
    try:
        # A link there would lead out of the container.
        directory = os.open(process.root / "tmp", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _no_room(process, f"its /tmp cannot be used: {error.strerror}") from error
    try:
        if os.fstatvfs(directory).f_flag & os.ST_RDONLY:
            raise _no_room(process, "its /tmp is read-only")
        yield directory
    finally:
        os.close(directory)


def _no_room(process: Process, why: str) -> SquashError:
    remedy = "mount an empty directory at /tmp, or let JDWP listen from the start (without onjcmd=y)"
    message = f"the JVM {process.pid} can only be asked by a socket in its /tmp, and {why}; {remedy}"
    return SquashError(Reason.DEBUGGER_UNSUITED, message)


def _line(process: Process, directory: int) -> socket.socket:
    """A connection to the JVM, which is made to listen if it does not. Raises OSError, SquashError."""
    own = _own(process)
    if line := _dial(process, directory, own):
        return line
    _check(process)  # before anything is made in its directories
    with _sign(process, directory, f".attach_pid{own}"):
        signals.send(process, signal.SIGQUIT, lambda: _check(process))
        deadline = time.monotonic() + WAKE
        while time.monotonic() < deadline and process.alive:
            if line := _dial(process, directory, own):
                return line
            time.sleep(LOOK)
    raise TimeoutError(f"it did not listen at /tmp/.java_pid{own} within {WAKE:g} s")


def _listens(directory: int, own: str) -> bool:
    """Whether its socket stands there."""
    try:
        return stat.S_ISSOCK(os.stat(f".java_pid{own}", dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _dial(process: Process, directory: int, own: str) -> socket.socket | None:
    """None while nobody listens there. Raises OSError when somebody else than the JVM does."""
    if not _listens(directory, own):
        return None
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.settimeout(ANSWER)
        line.connect(f"/proc/self/fd/{directory}/.java_pid{own}")
        peer, _, _ = _PEER.unpack(line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    except ConnectionRefusedError:
        line.close()
        return None  # an earlier process of that pid left it
    except OSError:
        line.close()
        raise
    if peer != process.pid:
        line.close()
        raise PermissionError(f"process {peer} listens in its place")
    return Bounded.of(line, ANSWER, _MOST)


def _check(process: Process) -> None:
    """What makes SIGQUIT safe and of use. Raises SquashError."""
    status = procfs.status(process.pid) or {}
    why = ""
    if "/libj9" in (procfs.PROC / str(process.pid) / "maps").read_text(errors="replace"):
        why = "is OpenJ9, which has no such protocol and would write a dump"
    elif not int(status.get("SigCgt", "0"), 16) >> (signal.SIGQUIT - 1) & 1:
        why = "does not handle SIGQUIT, which would end it: was it started with -Xrs?"
    elif "-XX:+DisableAttachMechanism" in words(process):
        why = "was started with -XX:+DisableAttachMechanism"
    if why:
        raise SquashError(Reason.DEBUGGER_UNSUITED, f"the JVM {process.pid} {why}")


@contextlib.contextmanager
def _sign(process: Process, temporary: int, name: str) -> Iterator[None]:
    """The file that tells SIGQUIT's meaning, for as long as the context is entered. Raises OSError."""
    working = os.open(procfs.PROC / str(process.pid) / "cwd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = _made(process, (temporary, working), name)
        try:
            yield
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=place)
    finally:
        os.close(working)


def _made(process: Process, places: tuple[int, ...], name: str) -> int:
    """The first of the directories in which the file could be made, for the JVM's user. Raises OSError."""
    failure: OSError | None = None
    for place in places:
        try:
            # Exclusively: where anybody may write, a name may be a link that leads elsewhere.
            made = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600, dir_fd=place)
        except FileExistsError:
            return place  # somebody else wakes the JVM just now, or was killed when he did
        except OSError as error:
            failure = failure or error
            continue
        try:
            if process.uid != os.geteuid():
                # From Java 11 on root's own file will do.
                with contextlib.suppress(PermissionError):
                    os.fchown(made, process.uid, process.gid)
        finally:
            os.close(made)
        return place
    raise failure or FileNotFoundError(name)


def _read(line: socket.socket) -> str:
    """The first line of an answer is its status, 0 for success. Raises OSError."""
    said = b""
    while data := line.recv(65_536):
        said += data
    status, _, text = said.decode(errors="replace").partition("\n")
    if status.strip() != "0":
        raise OSError(0, f"status {status}: {text.strip()}")
    return text

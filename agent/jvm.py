"""Asking a HotSpot JVM something by its attach protocol, from outside its container.

A file named .attach_pidN in the directory or /tmp of the JVM, owned by its user, and SIGQUIT make it listen on the unix
socket /tmp/.java_pidN; N is its pid as it sees it. (Sources: HotSpot's attachListener_posix.cpp.)
"""

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

from agent.process import Process
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason

WAKE = 5.0
"""Seconds for the JVM to listen; it does so at its next safe point."""
LOOK = 0.002
"""Seconds between two looks whether it does: nothing tells."""
ANSWER = 5.0
_MOST = 1_048_576


def ask(process: Process, command: str, *arguments: str) -> str:
    """The answer to an operation of the attach protocol, such as `jcmd`. Blocks. Raises SquashError."""
    pid = process.pid
    own = (procfs.status(pid) or {}).get("NSpid", str(pid)).split()[-1]
    door = process.root / "tmp" / f".java_pid{own}"
    try:
        if not door.is_socket():
            _wake(process, own, door)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(ANSWER)
            line.connect(str(door))
            words = ["1", command, *arguments, *[""] * (3 - len(arguments))]
            line.sendall(b"".join(word.encode() + b"\0" for word in words))
            return _read(line)
    except OSError as error:
        raise SquashError(
            Reason.ATTACH_FAILED, f"the JVM {pid} cannot be asked by its attach protocol: {error}"
        ) from error


def _wake(process: Process, own: str, door: Path) -> None:
    """Raises OSError, SquashError."""
    status = procfs.status(process.pid) or {}
    if not int(status.get("SigCgt", "0"), 16) >> (signal.SIGQUIT - 1) & 1:
        message = f"the JVM {process.pid} does not handle SIGQUIT, which would end it: was it started with -Xrs?"
        raise SquashError(Reason.DEBUGGER_UNSUITED, message)
    sign = process.root / "tmp" / f".attach_pid{own}"
    # Exclusively: in a directory that anybody may write to, a name may be a link that leads elsewhere.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(sign, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600))
    try:
        if process.uid != os.geteuid():
            os.chown(sign, process.uid, process.gid, follow_symlinks=False)
        os.kill(process.pid, signal.SIGQUIT)
        deadline = time.monotonic() + WAKE
        while not door.is_socket():
            if time.monotonic() > deadline or not process.alive:
                raise TimeoutError(f"it did not make {door} within {WAKE:g} s")
            time.sleep(LOOK)
    finally:
        sign.unlink(missing_ok=True)


def _read(line: socket.socket) -> str:
    """The first line of an answer is its status, 0 for success. Raises OSError."""
    said = b""
    while (data := line.recv(65_536)) and len(said) < _MOST:
        said += data
    status, _, text = said.decode(errors="replace").partition("\n")
    if status != "0":
        raise OSError(0, f"status {status}: {text.strip()}")
    return text

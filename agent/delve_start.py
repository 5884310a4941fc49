"""Starting delve: the first thing in the life of its guard, which loads what it needs for the rest meanwhile.

Its summons (agent.summons): the pid, the path for the notes, the program delve, the way it listens, a JSON list of
addresses where there are traps already; then names of terms. So little is imported because a developer may be waiting.
But from the moment that delve may touch the process there are notes (agent.rescue), for the case that this process is
killed.
"""

import ctypes
import os

from agent.summons import awaited
from agent.taskstat import START_TIME, fields, stopped

UNIX, NETWORK = "unix", "network"
"""Where delve listens: on a unix socket; on a port of a network that has nobody else in it."""
PORT = 2345
"""In that network every port is free."""
SOCKET = "delve.sock"
CAREFUL = "x86_64"
"""The machine on which whoever comes after a killed guard can take the process from delve (agent.stragglers). Elsewhere
the kernel tells delve to leave, which it does in its own way."""
_SIGHUP, _SIGINT, _SIGTERM = 1, 2, 15
_SET_PDEATHSIG = 1
_DEFAULT, _IGNORE = ctypes.c_void_p(0), ctypes.c_void_p(1)
_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    # What ends a service must not come between it and a release. The signal module takes longer to load.
    _signals(_IGNORE)
    pid, notes, delve, way, others, *_ = awaited()
    child, said, noted = spawn(delve, int(pid), notes, way, others)

    from pathlib import Path  # noqa: PLC0415 - delve starts meanwhile

    from agent.delve_guard import look_after  # noqa: PLC0415

    os.read(noted, 1)
    look_after(int(pid), Path(notes), child, said)


def spawn(delve: str, pid: int, notes: str, way: str, others: str) -> tuple[int, int, int]:
    """Starts it; its pid, a descriptor of all that it says, and one that ends when its notes are written, or it did."""
    ours, theirs = os.pipe()
    noted, noting = os.pipe()
    directory = os.path.dirname(notes)
    door = f"{directory}/{SOCKET}"
    if os.path.lexists(door):
        os.unlink(door)
    listen = f"unix:{door}" if way == UNIX else f"127.0.0.1:{PORT}"
    # Not continuing by itself: a fast client would race with it. Versions that it does not know mostly work.
    options = ["--headless", "--api-version=2", "--check-go-version=false", f"--listen={listen}"]
    # It writes a file of its settings where it finds none.
    environment = {**os.environ, "XDG_CONFIG_HOME": directory, "HOME": directory}
    guard, before = os.getpid(), stopped(pid)
    child = os.fork()
    if child:
        os.close(theirs)
        os.close(noting)
        return child, ours, noted
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(theirs, 1)
        os.dup2(theirs, 2)
        _signals(_DEFAULT)
        if os.uname().machine != CAREFUL:
            _libc.prctl(_SET_PDEATHSIG, _SIGINT, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(1)
        _note(notes, pid, guard, before, others)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        if way == NETWORK:
            _own_network(_libc)
        os.execve(delve, [delve, "attach", str(pid), *options], environment)  # noqa: S606 - there is no shell to want
    except OSError as error:
        os.write(2, f"{delve} could not be started: {error}\n".encode())
    os._exit(127)


def _signals(action: ctypes.c_void_p) -> None:
    for number in (_SIGHUP, _SIGINT, _SIGTERM):
        _libc.signal(number, action)


def _note(path: str, pid: int, guard: int, before: bool, others: str) -> None:
    """As agent.rescue.Notes are saved: this process is going to be delve. Raises OSError, also when one is gone."""
    whose = {}
    for name, number in (("target", pid), ("guard", guard), ("server", os.getpid())):
        found = fields(f"/proc/{number}/stat")
        if not found:
            raise ProcessLookupError(f"process {number} is gone")
        whose[name] = f"[{number}, {found[START_TIME]}]"
    parties = ", ".join(f'"{name}": {who}' for name, who in whose.items())
    # The json module takes longer to load.
    rest = (
        f'"stopped": {str(before).lower()}, "originals": {{}}, "multiprocess": false, "points": [], "others": {others}'
    )
    with open(f"{path}.new", "w") as file:
        file.write(f"{{{parties}, {rest}}}")
    os.replace(f"{path}.new", path)


def _own_network(libc: ctypes.CDLL) -> None:
    """Moves this process into a network namespace of its own, with a loopback (netdevice(7)). Raises OSError."""
    import fcntl  # noqa: PLC0415 - a part of the start of every session that few need
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    if libc.unshare(_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"a network of its own: {os.strerror(number)}")
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        name, flags = struct.unpack("16sh14x", fcntl.ioctl(line, get_flags, struct.pack("16s16x", b"lo")))
        fcntl.ioctl(line, set_flags, struct.pack("16sh14x", name, flags | up))

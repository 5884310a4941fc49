"""Starting delve: the first thing in the life of its guard, which loads what it needs for the rest meanwhile.

Arguments: the pid, the path for the notes, the program delve, the way it listens; then names of terms. So little is
imported because every millisecond here is one that a developer waits.
"""

import ctypes
import os
import sys

UNIX, NETWORK = "unix", "network"
"""Where delve listens: on a unix socket; on a port of a network that has nobody else in it."""
PORT = 2345
"""In that network every port is free."""
SOCKET = "delve.sock"
_SET_PDEATHSIG, _SIGINT = 1, 2
_NEWNET = 0x40000000


def main() -> None:
    pid, notes, delve, way, *_ = sys.argv[1:]
    child, said = spawn(delve, pid, os.path.dirname(notes), way)  # noqa: PTH120 - as in spawn

    from pathlib import Path  # noqa: PLC0415 - delve starts meanwhile

    from agent.delve_guard import look_after  # noqa: PLC0415

    look_after(int(pid), Path(notes), child, said)


def spawn(delve: str, pid: str, directory: str, way: str) -> tuple[int, int]:
    """Starts it; its pid, and a descriptor of all that it says."""
    ours, theirs = os.pipe()
    door = f"{directory}/{SOCKET}"
    if os.path.lexists(door):
        os.unlink(door)  # noqa: PTH108 - pathlib takes longer to load than delve to start
    listen = f"unix:{door}" if way == UNIX else f"127.0.0.1:{PORT}"
    # Not continuing by itself: a fast client would race with it. Versions that it does not know mostly work.
    options = ["--headless", "--api-version=2", "--check-go-version=false", f"--listen={listen}"]
    # It writes a file of its settings where it finds none.
    environment = {**os.environ, "XDG_CONFIG_HOME": directory, "HOME": directory}
    libc = ctypes.CDLL(None, use_errno=True)
    guard = os.getpid()
    child = os.fork()
    if child:
        os.close(theirs)
        return child, ours
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(theirs, 1)
        os.dup2(theirs, 2)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        libc.prctl(_SET_PDEATHSIG, _SIGINT, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(1)
        if way == NETWORK:
            _own_network(libc)
        os.execve(delve, [delve, "attach", pid, *options], environment)  # noqa: S606 - there is no shell to want
    except OSError as error:
        os.write(2, f"{delve} could not be started: {error}\n".encode())
    os._exit(127)


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

"""Sockets in the network namespace of another process, without moving the agent there (setns(2) is a thread's own)."""

import ctypes
import os
import socket
import threading

from squash import procfs

_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def connect(pid: int, host: str, port: int, timeout: float) -> socket.socket:
    """A connection to an address as the process `pid` would make it. Blocks; raises OSError.

    Another namespace than the agent's takes CAP_SYS_ADMIN.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = _socket(pid, family)
    try:
        made.settimeout(timeout)
        made.connect((host, port))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        made.close()
        raise
    return made


def _socket(pid: int, family: socket.AddressFamily) -> socket.socket:
    """A socket keeps the namespace that it was made in."""
    if procfs.namespace(pid, "net") == procfs.namespace(os.getpid(), "net"):
        return socket.socket(family, socket.SOCK_STREAM)
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(namespace, _NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, f"cannot enter the network namespace of {pid}: {os.strerror(number)}")
                made.append(socket.socket(family, socket.SOCK_STREAM))
            finally:
                os.close(namespace)
        except OSError as error:
            made.append(error)

    # A thread of its own, which ends in that namespace and is never used again.
    thread = threading.Thread(target=make, name="other network")
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]

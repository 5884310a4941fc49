"""Sockets in the network namespace of another process, without moving the agent there (setns(2) is a thread's own)."""

import ctypes
import os
import socket
import threading

from squash import procfs

_NEWNET = 0x40000000
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_libc = ctypes.CDLL(None, use_errno=True)


def connect(pid: int, host: str, port: int, timeout: float) -> socket.socket:
    """A connection to where somebody listens, as the process `pid` would make it. Blocks; raises OSError.

    Who listens everywhere is reached by the loopback. Another namespace than the agent's takes CAP_SYS_ADMIN.
    """
    host = _LOOPBACK.get(host, host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    connecting = made(pid, family, socket.SOCK_STREAM)
    try:
        connecting.settimeout(timeout)
        connecting.connect((host, port))
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        connecting.close()
        raise
    return connecting


def made(pid: int, family: socket.AddressFamily, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
    """A socket that is not connected; it keeps the namespace that it was made in. Raises OSError."""
    if procfs.namespace(pid, "net") == procfs.namespace(os.getpid(), "net"):
        return socket.socket(family, kind, protocol)
    found: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(namespace, _NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, f"cannot enter the network namespace of {pid}: {os.strerror(number)}")
                found.append(socket.socket(family, kind, protocol))
            finally:
                os.close(namespace)
        except OSError as error:
            found.append(error)

    # A thread of its own, which ends in that namespace and is never used again.
    thread = threading.Thread(target=make, name="other network")
    thread.start()
    thread.join()
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]

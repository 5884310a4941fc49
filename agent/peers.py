"""Who is at the other end of a connection of this machine."""

import os
import pwd
import socket
import struct

from agent.streams import Stream
from squash import procfs

_CREDENTIALS = struct.Struct("iII")


def unix_peer(stream: Stream) -> str:
    """The user at the other end of a unix socket (SO_PEERCRED, unix(7)), by name."""
    sock: socket.socket = stream.writer.get_extra_info("socket")
    _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return user(uid)


def tcp_peer(stream: Stream) -> int | None:
    """The uid at the other end of a loopback connection; None when the kernel does not tell."""
    peer, ours = (stream.writer.get_extra_info(key) for key in ("peername", "sockname"))
    return procfs.owner_of_connection(peer[:2], ours[:2]) if peer else None


def user(uid: int) -> str:
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return f"{name}@{os.uname().nodename}"

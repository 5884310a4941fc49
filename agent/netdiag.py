"""TCP sockets of another process's network namespace, asked of the kernel (sock_diag(7)).

Unlike /proc/net/tcp it tells only what is asked for: a table of thousands of connections takes tens of milliseconds.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterator

from agent import netns
from squash import procfs
from squash.procfs import TcpSocket

ESTABLISHED = 1
LISTEN = 10
_SOCK_DIAG = 4
_BY_FAMILY = 20
_DUMP = 0x301
_DONE = 3
_ERROR = 2
_ANSWER = 5.0
_HEADER = struct.Struct("=IHHII")
_QUESTION = struct.Struct("=BBBBI48s")
_FOUND = struct.Struct("=BBBB 2s2s16s16s I8s 5I")
_BYTECODE = 1
_PORT_AT_LEAST, _PORT_AT_MOST = 2, 3


def sockets(pid: int, state: int, port: int = 0) -> list[TcpSocket]:
    """Those in a state, of one local port if that is given, where process `pid` lives. Raises OSError."""
    try:
        with netns.made(pid, socket.AF_NETLINK, socket.SOCK_DGRAM, _SOCK_DIAG) as asking:
            asking.settimeout(_ANSWER)
            return [one for family in (socket.AF_INET, socket.AF_INET6) for one in _ask(asking, family, state, port)]
    except OSError:
        # A kernel without it, or a sandbox that keeps it from us.
        found = procfs.tcp_sockets(pid)
        return [one for one in found if one.state == state and port in (0, one.port)]


def listening(pid: int) -> set[tuple[str, int]]:
    """Host and port of each socket that this very process listens on. Raises OSError."""
    own = procfs.socket_inodes(pid)
    return {(each.host, each.port) for each in sockets(pid, LISTEN) if each.inode in own}


def _ask(asking: socket.socket, family: int, state: int, port: int) -> Iterator[TcpSocket]:
    question = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, 0, 1 << state, bytes(48))
    if port:
        question += struct.pack("=HH", 4 + 16, _BYTECODE) + _only(port)
    asking.send(_HEADER.pack(_HEADER.size + len(question), _BY_FAMILY, _DUMP, 0, 0) + question)
    while True:
        data = asking.recv(65_536)
        while data:
            length, kind, *_ = _HEADER.unpack_from(data)
            body, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
            if kind == _DONE:
                return
            if kind == _ERROR:
                number = -struct.unpack_from("=i", body)[0]
                raise OSError(number, "sock_diag")
            yield _read(body)


def _only(port: int) -> bytes:
    """A filter on the local port (struct inet_diag_bc_op): each step says how far to go on yes and on no."""
    # A step of a port has its operand in the next slot; a jump behind the end of all means no.
    lowest = struct.pack("=BBHBBH", _PORT_AT_LEAST, 8, 16 + 4, 0, 0, port)
    highest = struct.pack("=BBHBBH", _PORT_AT_MOST, 8, 8 + 4, 0, 0, port)
    return lowest + highest


def _read(body: bytes) -> TcpSocket:
    family, state, _, _, local, remote, host, *rest = _FOUND.unpack_from(body)
    address = ipaddress.ip_address(host[:4] if family == socket.AF_INET else host)
    uid, inode = rest[-2:]
    return TcpSocket(state, str(address), int.from_bytes(local), int.from_bytes(remote), uid, inode)

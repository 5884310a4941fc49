"""Facts that Linux tells of processes and sockets under /proc (proc(5)). Reads only; a process that is gone is None."""

import contextlib
import errno
import ipaddress
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
_LISTENS = 10
_EXITING = 0x4
_MAPPED = "".join(f"{word:08X}" for word in struct.unpack("=3I", bytes(10) + b"\xff\xff"))


class Stat(NamedTuple):
    """From /proc/PID/stat. `start_time` is in clock ticks since boot; pid and start_time together are unique.

    `flags` are the kernel's own (linux/sched.h).
    """

    pid: int
    comm: str
    state: str
    ppid: int
    start_time: int
    flags: int


def pids() -> Iterator[int]:
    """Every process visible here."""
    # Read as a whole: a caller who stops early must not leave the directory open.
    with os.scandir(PROC) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        if name.isdigit():
            yield int(name)


def stat(pid: int) -> Stat | None:
    try:
        text = _read(pid, "stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name stands in parentheses and may itself hold any character.
    comm = text[text.index("(") + 1 : text.rindex(")")]
    rest = text[text.rindex(")") + 2 :].split()
    return Stat(pid, comm, rest[0], int(rest[1]), int(rest[19]), int(rest[6]))


def _read(pid: int, name: str) -> str:
    """A file of a process, which is asked for so often that paths and buffers would be most of the work."""
    file = os.open(f"{PROC}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while part := os.read(file, 65_536):
            data += part
    finally:
        os.close(file)
    return data.decode(errors="replace")


def alive(pid: int, start_time: int) -> bool:
    """Whether the very process that had this start time still runs.

    A zombie does not, nor does one on its way out, which has closed its files and lost its memory maybe.
    """
    now = stat(pid)
    return now is not None and now.start_time == start_time and now.state not in "ZX" and not now.flags & _EXITING


def handle(pid: int) -> int:
    """A descriptor that stands for a process (pidfd_open(2)). Raises ProcessLookupError when there is none."""
    try:
        return os.pidfd_open(pid)
    except OSError as error:
        # The number of a thread by now: the first one says a kernel before 6.15, the other a later one.
        if error.errno in (errno.EINVAL, errno.ENOENT):
            raise ProcessLookupError(errno.ESRCH, f"{pid} is no process") from None
        raise


def environ(pid: int) -> dict[str, str] | None:
    """The environment the process was started with; None when it is gone or belongs to somebody else."""
    try:
        raw = (PROC / str(pid) / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    pairs = (item.partition("=") for item in os.fsdecode(raw).split("\0") if item)
    return {key: value for key, _, value in pairs}


def status(pid: int) -> dict[str, str] | None:
    """The fields of /proc/PID/status, as text."""
    try:
        text = _read(pid, "status")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def listener_of(port: int) -> Stat | None:
    """The process that listens on this TCP port, as far as this user may see."""
    inodes = set(_listening_inodes(port))
    wanted = {f"socket:[{inode}]" for inode in inodes}
    if not wanted:
        return None
    for pid in pids():
        if wanted & set(_open_files(pid)):
            return stat(pid)
    return None


def owner_of_connection(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """The uid behind an established TCP connection of this host, seen from its end `local`; None: there is none."""
    ends = [_in_table(*local), _in_table(*remote)]
    # A socket that can do both speaks IPv4 under such addresses of IPv6 (RFC 4291, 2.5.5.2).
    mapped = [_MAPPED + end for end in ends]
    for table in ("tcp", "tcp6"):
        for fields in _connections(f"net/{table}"):
            # An end that its process has closed has no inode any more, and no owner that could be trusted.
            if fields[1:3] in (ends, mapped) and fields[3] == "01" and fields[9] != "0":
                return int(fields[7])
    return None


def _in_table(host: str, port: int) -> str:
    """An address as /proc/net/tcp has it: 32-bit words in the byte order of the machine."""
    packed = ipaddress.ip_address(host).packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"


def _open_files(pid: int) -> Iterator[str]:
    try:
        with os.scandir(PROC / str(pid) / "fd") as entries:
            for entry in entries:
                # Any of them may be closed by now.
                with contextlib.suppress(OSError):
                    yield os.readlink(entry.path)
    except OSError:
        return


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        for fields in _connections(f"net/{table}"):
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                yield fields[9]


def _connections(table: str) -> Iterator[list[str]]:
    try:
        lines = (PROC / table).read_text().splitlines()[1:]
    except OSError:
        return
    yield from (line.split() for line in lines)


def children(pid: int) -> list[int]:
    """Pids of a process's children (proc_pid_task_tid_children(5)); empty when it is gone."""
    found: list[int] = []
    for file in (PROC / str(pid) / "task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in file.read_text().split()]
    return found


def namespace(pid: int, kind: str) -> str:
    """The namespace of a kind (`mnt`, `net`, …) that it is in, like `mnt:[40265318]`; empty when unreadable."""
    try:
        return os.readlink(PROC / str(pid) / "ns" / kind)
    except OSError:
        return ""


def listening(pid: int) -> set[tuple[str, int]]:
    """Host and port of each TCP socket that this very process listens on, in its own network namespace."""
    own = socket_inodes(pid)
    return {(each.host, each.port) for each in tcp_sockets(pid) if each.state == _LISTENS and each.inode in own}


def socket_inodes(pid: int) -> set[int]:
    """Of the sockets that a process has open; empty when it is gone or may not be looked at."""
    return {int(name[8:-1]) for name in _open_files(pid) if name.startswith("socket:[")}


def connected(pid: int, port: int) -> list[tuple[str, int]]:
    """Host and port of whoever is connected to this TCP port of this very process."""
    own = set(_open_files(pid))
    found = set()
    for table in ("tcp", "tcp6"):
        for fields in _connections(f"{pid}/net/{table}"):
            here, there = fields[1].rpartition(":"), fields[2].rpartition(":")
            if fields[3] == "01" and int(here[2], 16) == port and f"socket:[{fields[9]}]" in own:
                found.add((_from_table(there[0]), int(there[2], 16)))
    return sorted(found)


class TcpSocket(NamedTuple):
    """A TCP socket of some network namespace: `state` as in `enum` of tcp_states.h, both ports, and whose it is."""

    state: int
    host: str
    port: int
    remote: int
    uid: int
    inode: int


def tcp_sockets(pid: int) -> Iterator[TcpSocket]:
    """Those of the network namespace of this process. Slow where there are thousands of connections."""
    for table in (f"{pid}/net/tcp", f"{pid}/net/tcp6"):
        for fields in _connections(table):
            host, _, port = fields[1].partition(":")
            remote = int(fields[2].rpartition(":")[2], 16)
            state, uid, inode = int(fields[3], 16), int(fields[7]), int(fields[9])
            yield TcpSocket(state, _from_table(host), int(port, 16), remote, uid, inode)


def descriptor_of(pid: int, inode: int) -> int | None:
    """The lowest number by which this very process holds the socket of that inode."""
    held, directory = f"socket:[{inode}]", f"{PROC}/{pid}/fd"
    try:
        with os.scandir(directory) as entries:
            numbers = sorted(int(entry.name) for entry in entries)
    except OSError:
        return None
    for number in numbers:
        with contextlib.suppress(OSError):
            if os.readlink(f"{directory}/{number}") == held:
                return number
    return None


def _from_table(host: str) -> str:
    """The reverse of `_in_table`, for an address without its port."""
    words = (int(host[at : at + 8], 16) for at in range(0, len(host), 8))
    return str(ipaddress.ip_address(struct.pack(f"={len(host) // 8}I", *words)))

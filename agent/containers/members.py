"""Which processes are a container's, when its first one is known: facts of /proc and the cgroup file system."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.process import Process
from squash import procfs

CGROUPS = Path("/sys/fs/cgroup")
_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
"""A container's id, as all runtimes make it a part of its cgroup's name."""


def of_init(pid: int, container: str = "") -> list[Process]:
    """The processes of the container whose first process has this pid, oldest first; empty when it is gone.

    `container` is its id: a cgroup counts that bears it, else the descent from the first process. Where the cgroup
    bears the id of another one, the pid has changed hands.
    """
    cgroups = list(_cgroups(pid))
    ids = {found for _, path in cgroups for found in _ID.findall(path)}
    if container and ids and container not in ids:
        return []
    own = [(controllers, path) for controllers, path in cgroups if container in path]
    return read(_of_cgroup(pid, own) or _of_descent(pid))


def of_container(ident: str) -> list[Process]:
    """The processes in a cgroup that bears the container's id (of 64 hex digits), for runtimes that tell no pid.

    Reads a file of each process of the machine: 15 µs each.
    """
    return read(pid for pid in procfs.pids() if any(ident in path for _, path in _cgroups(pid)))


def of_mount_namespace(inode: str) -> list[Process]:
    """The processes in a mount namespace, as `/proc/self/ns/mnt` names it: `mnt:[4026532]`."""
    return read(pid for pid in procfs.pids() if procfs.namespace(pid, "mnt") == inode)


def read(pids: Iterator[int] | set[int]) -> list[Process]:
    found = (Process.read(pid) for pid in pids)
    return sorted((process for process in found if process), key=lambda process: (process.start_time, process.pid))


def _of_cgroup(pid: int, cgroups: Iterable[tuple[str, str]]) -> set[int]:
    """Everybody in the cgroup of this process or below, also those whose parents are gone; empty when unknown."""
    for controllers, path in cgroups:
        # The root is everybody's, and `..` is above what this mount shows (cgroup_namespaces(7)).
        if path == "/" or "/.." in path:
            continue
        base = CGROUPS / controllers.removeprefix("name=") if controllers else CGROUPS
        members = _procs(base / path.removeprefix("/"))
        if pid in members:
            return members
    return set()


def _procs(directory: Path) -> set[int]:
    members: set[int] = set()
    for file in (directory / "cgroup.procs", *directory.glob("**/*/cgroup.procs")):
        try:
            members.update(int(line) for line in file.read_text().split())
        except OSError:
            continue  # a cgroup that is gone by now, or a threaded one, which lists no processes
    return members


def _of_descent(pid: int) -> set[int]:
    members, unseen = set(), [pid]
    while unseen:
        one = unseen.pop()
        members.add(one)
        unseen += [child for child in procfs.children(one) if child not in members]
    return members


def _cgroups(pid: int) -> Iterator[tuple[str, str]]:
    """Controllers and path of each hierarchy; version 2 has one, without controllers (cgroups(7))."""
    try:
        text = (procfs.PROC / str(pid) / "cgroup").read_text(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        yield controllers, path

"""How much a container may still grow: the limits of its cgroup and of those above it, version 1 and 2 (cgroups(7))."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from squash import procfs

CGROUPS = Path("/sys/fs/cgroup")
_CACHE = ("inactive_file", "active_file")
"""Pages of files that the kernel gives up before it kills anybody; those of tmpfs are not among them."""
_NO_LIMIT = 1 << 60
"""Version 1 says a number about here when there is none."""


@dataclass(frozen=True)
class Memory:
    """In bytes."""

    limit: int
    used: int
    """With the cache."""
    cache: int
    """What of it can be given up."""

    @property
    def free(self) -> int:
        return self.limit - self.used + self.cache


def of_process(pid: int, root: Path = CGROUPS, proc: Path = procfs.PROC) -> Memory | None:
    """The tightest limit that the process is under; None when it is under none, or none can be seen from here."""
    base, path = _place(pid, root, proc)
    found = list(_levels(base, path)) if base else []
    # From inside a container the cgroup file system may show its own part alone.
    for inside in (proc / str(pid) / "root/sys/fs/cgroup/memory", proc / str(pid) / "root/sys/fs/cgroup"):
        if not found:
            found = list(_levels(inside, ""))
    return min(found, key=lambda memory: memory.free, default=None)


def _place(pid: int, root: Path, proc: Path) -> tuple[Path | None, str]:
    """Where the memory controller is mounted, and the cgroup's path in there; None when it is not to be seen."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text(errors="replace").splitlines()
    except OSError:
        return None, ""
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            return (None, "") if "/.." in path else (root / "memory", path)
    for line in lines:
        if line.startswith("0::") and "/.." not in line:
            return root, line[3:]
    return None, ""


def _levels(base: Path, path: str) -> Iterator[Memory]:
    """Each level with a limit, from the process's own cgroup upwards."""
    place = base / path.strip("/")
    while place.is_relative_to(base):
        if memory := _read(place):
            yield memory
        place = place.parent


def _read(place: Path) -> Memory | None:
    limit = _number(place / "memory.max", place / "memory.limit_in_bytes")
    used = _number(place / "memory.current", place / "memory.usage_in_bytes")
    if limit is None or used is None or limit >= _NO_LIMIT:
        return None
    stat = _stat(place / "memory.stat")
    # Version 1 tells sums over the cgroups below under names of their own.
    cache = sum(stat.get(f"total_{name}", stat.get(name, 0)) for name in _CACHE)
    return Memory(limit, used, min(cache, used))


def _number(*files: Path) -> int | None:
    for file in files:
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdecimal() else None
    return None


def _stat(file: Path) -> dict[str, int]:
    try:
        pairs = (line.split() for line in file.read_text().splitlines())
    except OSError:
        return {}
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}

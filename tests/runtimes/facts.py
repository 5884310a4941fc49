"""What the kernel tells of a service in a container, of its files and of what is open around it: before, and after."""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from agent.summons import WAITING
from demo.janitor import MARK
from demo.world import World
from squash import procfs
from tests.agent.scan import open_doors
from tests.eventually import eventually

_GROWING = {
    "go": ("service",),
    "java": ("Attach Listener", "C1 CompilerThre", "C2 CompilerThre", "Common-Cleaner", "GC Thread", "Sweeper thread"),
}
"""Threads by name that a runtime starts for itself when it has work for them."""


@dataclass(frozen=True)
class Facts:
    tracers: frozenset[int]
    """Of all threads; {0} when nobody traces."""
    states: frozenset[str]
    """Stopped ones among `t` (by a tracer) and `T`."""
    threads: "Counter[str]"
    """How many of each name."""
    open_files: "Counter[str]"
    """Of the process, by kind."""
    tree: frozenset[str]
    """Every file of the container."""
    helpers: tuple[str, ...]
    """Debuggers and the like that the agent has started."""
    places: tuple[str, ...]
    """What the agent keeps for debuggers on its own side."""
    host: tuple[str, ...]
    """What stands open in the agent's network namespace."""
    pod: tuple[str, ...]
    """And in the container's."""

    @classmethod
    def of(cls, pid: int, world: World, language: str, *, woken: bool = False) -> "Facts":
        """`woken`: leaves out what a JVM keeps that was told to start its JDWP by its attach protocol."""
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        told = [found for task in tasks if (found := _status(task))]
        return cls(
            tracers=frozenset(int(found["TracerPid"]) for found in told),
            states=frozenset(found["State"][0] for found in told) & {"t", "T"},
            threads=Counter(name for found in told if not _own(name := found["Name"], language, woken=woken)),
            open_files=Counter(kind for kind in _open_files(pid) if not (woken and kind == "socket:")),
            tree=frozenset(name for name in _tree(pid) if not (woken and "/.java_pid" in name)),
            helpers=tuple(sorted(helpers(world).values())),
            places=tuple(sorted(_places(world))),
            host=tuple(open_doors()),
            pod=tuple(open_doors(pid)),
        )

    def difference(self, other: "Facts") -> str:
        """What is not the same, in words; empty: all is."""
        lines = []
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            # The connection, or the thread, of one who asked before may have ended only since.
            if isinstance(mine, Counter) and theirs <= mine:
                continue
            if mine != theirs:
                lines.append(f"{field.name}: {_shortly(mine, theirs)} became {_shortly(theirs, mine)}")
        return "; ".join(lines)


def settled(look: Callable[[], Facts], before: Facts, limit: float = 30.0) -> str:
    """Waits until everything is as before; what is not in the end, in words."""
    return eventually(lambda: before.difference(look()), lambda found: not found, limit)


def helpers(world: World) -> dict[int, str]:
    """Processes of this world that it did not start itself, by pid: the debuggers that its agents have started.

    Each with its own name and its arguments. A guard that waits works for nobody yet.
    """
    mine = {child.pid for child in world.children}
    found = {}
    for pid in procfs.pids():
        environment = procfs.environ(pid) or {}
        if pid in mine or environment.get(MARK) != str(world.directory):
            continue
        if (stat := procfs.stat(pid)) and stat.state not in "ZX" and stat.comm != WAITING:
            words = (procfs.PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ")
            found[pid] = f"{stat.comm}: {words.decode(errors='replace')}".strip()
    return found


def _places(world: World) -> list[str]:
    return [str(entry) for place in ("target", "client") for entry in (world.directory / "agent" / place).glob("*")]


def _status(task: Path) -> dict[str, str]:
    try:
        text = (task / "status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _own(name: str, language: str, *, woken: bool) -> bool:
    return name.startswith(_GROWING.get(language, ())) or (woken and name.startswith("JDWP"))


def _open_files(pid: int) -> list[str]:
    found = []
    with os.scandir(f"/proc/{pid}/fd") as entries:
        for entry in entries:
            try:
                found.append(re.sub(r"\[\d+\]", "", os.readlink(entry.path)))
            except FileNotFoundError:
                continue  # closed by now
    return found


def _tree(pid: int) -> list[str]:
    """The root's own file system and that of /dev: other mounts are the kernel's."""
    roots = [f"/proc/{pid}/root/", f"/proc/{pid}/root/dev/"]
    command = ["find", *roots, "-xdev", "-not", "-path", "*/dev/pts*", "-printf", "%p %y\n"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    # What goes while it is listed is as good as gone.
    problems = [line for line in done.stderr.splitlines() if not line.endswith("No such file or directory")]
    assert not problems, problems
    return done.stdout.splitlines()


def _shortly(one: object, other: object) -> str:
    """What the one has and the other has not."""
    if isinstance(one, Counter) and isinstance(other, Counter):
        return str(dict(one - other))
    if isinstance(one, frozenset | tuple) and isinstance(other, frozenset | tuple):
        return str(sorted(map(str, set(one) - set(other)))[:12])
    return str(one)

"""What the agent knows of one process before it touches it."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from squash import procfs


@dataclass(frozen=True)
class Process:
    """Facts of /proc/PID, read once. `start_time` (clock ticks since boot) tells it from a later pid of that number."""

    pid: int
    start_time: int
    ppid: int
    comm: str
    exe: str
    """Path of the executable as the process sees it; empty when it may not be read."""
    cmdline: tuple[str, ...]
    uid: int
    gid: int

    @classmethod
    def read(cls, pid: int) -> Self | None:
        """The process of this pid, or None when it is gone or a zombie."""
        stat, status = procfs.stat(pid), procfs.status(pid)
        if stat is None or status is None or stat.state in "ZX":
            return None
        directory = procfs.PROC / str(pid)
        try:
            raw = (directory / "cmdline").read_bytes()
        except OSError:
            return None
        try:
            exe = os.readlink(directory / "exe")
        except OSError:
            exe = ""
        return cls(
            pid,
            stat.start_time,
            stat.ppid,
            stat.comm,
            exe,
            tuple(os.fsdecode(part) for part in raw.split(b"\0")[:-1]),
            int(status["Uid"].split()[1]),
            int(status["Gid"].split()[1]),
        )

    @cached_property
    def maps(self) -> str:
        """What it has mapped, when this was first asked for (proc_pid_maps(5)); empty when that may not be read."""
        try:
            return (procfs.PROC / str(self.pid) / "maps").read_text(errors="replace")
        except OSError:
            return ""

    @property
    def root(self) -> Path:
        """The process's root directory, seen from here (proc_pid_root(5))."""
        return procfs.PROC / str(self.pid) / "root"

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return procfs.alive(self.pid, self.start_time)

    @property
    def tracer(self) -> int:
        """Pid of whoever traces it, 0 when nobody does."""
        status = procfs.status(self.pid)
        return int(status["TracerPid"]) if status else 0

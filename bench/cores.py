"""Which processor core does what, so that the load does not run on the core of what is measured."""

import contextlib
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    load: int
    measured: int
    upstream: int
    """That of the load where there are only two."""

    @property
    def shared(self) -> bool:
        """True where one core has to do everything, and no figure is worth much."""
        return self.load == self.measured


@functools.cache
def plan() -> Cores:
    """From the cores that this process might use when it was first asked for."""
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1 % len(usable)], usable[2] if len(usable) > 2 else usable[0])


@contextlib.contextmanager
def on(core: int) -> Iterator[None]:
    """Keeps the calling thread, and whatever it starts meanwhile, on a core."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def pin(pid: int, core: int) -> None:
    """Keeps every thread that a process has, and those they start from now on, on a core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # a thread that has ended
            os.sched_setaffinity(int(task.name), {core})


def cpu_seconds(pid: int) -> float:
    """Processor time that a living process has used so far (proc(5), fields utime and stime)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def busy_seconds() -> float:
    """Processor time that all processes of the machine have used so far (proc(5), first line of /proc/stat)."""
    user, nice, system = Path("/proc/stat").read_text().split(maxsplit=4)[1:4]
    return (int(user) + int(nice) + int(system)) / TICKS

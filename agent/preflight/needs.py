"""What a debugger needs of the agent, of the machine and of a process: declared by each debugger, in one place."""

from dataclasses import dataclass
from enum import IntEnum

MEGABYTE = 1024 * 1024


class Capability(IntEnum):
    """Those that matter here, by their numbers in capability masks (capabilities(7))."""

    CHOWN = 0
    DAC_OVERRIDE = 1
    KILL = 5
    SYS_CHROOT = 18
    SYS_PTRACE = 19
    SYS_ADMIN = 21

    @classmethod
    def of(cls, mask: int) -> frozenset["Capability"]:
        return frozenset(each for each in cls if mask >> each & 1)


@dataclass(frozen=True)
class Needs:
    """Which capabilities follow from it depends on the process: for one that is the agent's own kind, none."""

    traces: bool = False
    """It attaches with ptrace(2)."""
    signals: bool = False
    """It sends the process signals. Whatever traces does so too."""
    directory: bool = False
    """It makes a directory that belongs to the process's user, in the process's file system."""
    files: int = 0
    """Bytes that it copies into that directory when the process lives in another file system than the agent."""
    memory: int = 0
    """Bytes by which the process grows."""
    network: bool = False
    """It connects to the process's own loopback, so it enters the process's network namespace."""
    libraries: bool = False
    """It reads the process's libraries by entering its mount namespace; without, it knows less."""
    symbols: bool = False
    """It works on machine code, and knows as much of it as the executable's debug information tells."""
    runs_code: bool = False
    """Code of its own runs inside the process, and opens a unix socket there."""
    programs: tuple[str, ...] = ()
    """Programs on the agent's PATH."""
    machines: frozenset[str] = frozenset()
    """What the process's executable may be compiled for, as `uname -m` has it; empty: anything."""

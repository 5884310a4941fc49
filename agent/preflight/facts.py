"""What is known of the agent and of one process before the process is touched. Plain values: nothing here looks."""

from dataclasses import dataclass
from enum import IntEnum

from agent.libc import STATIC, Libc
from agent.preflight.memory import Memory
from agent.preflight.needs import Capability
from agent.process import Process
from agent.program import Program


class Seccomp(IntEnum):
    """The mode, as in /proc/PID/status (seccomp(2))."""

    NONE = 0
    STRICT = 1
    """Reading, writing and exiting are allowed: anything else kills the process."""
    FILTER = 2


@dataclass(frozen=True)
class AgentFacts:
    """What this agent may do."""

    uid: int
    capabilities: frozenset[Capability]
    """Effective ones."""
    machine: str
    """As `uname -m` has it."""
    seccomp: Seccomp = Seccomp.NONE
    blocked: frozenset[str] = frozenset()
    """System calls that its seccomp filter refuses, of those that debuggers make."""
    ptrace_scope: int | None = None
    """Yama's; None where there is no Yama."""
    own_pids: bool = False
    """It is in a pid namespace of its own, so it sees the processes of its own container alone."""
    own_users: bool = False
    """It is in a user namespace of its own, so its capabilities count in there alone."""


@dataclass(frozen=True)
class Home:
    """A directory of the process's file system where a debugger's files could stand."""

    path: str
    obstacle: str
    """Why they could not; empty when they can."""
    free: int = 1 << 40
    """Bytes that fit in."""
    executable: bool = True
    """Whether libraries in there can be loaded."""


@dataclass(frozen=True)
class TargetFacts:
    """One process."""

    process: Process
    state: str = "S"
    """As in /proc/PID/stat; `T`: stopped by a signal."""
    tracer: int = 0
    tracer_name: str = ""
    seccomp: Seccomp = Seccomp.NONE
    may_look: bool = True
    """The agent may read what only those may who could trace it, such as its root directory."""
    may_trace: bool = True
    """The kernel would let the agent trace it, going by an open of /proc/PID/mem."""
    may_signal: bool = True
    other_users: bool = False
    """It is in another user namespace than the agent."""
    users_below: bool = True
    """The agent's user namespace is the process's, or one above it: the agent's capabilities count there."""
    uid_inside: int | None = None
    """Its uid as its own user namespace counts; None when it has none there."""
    other_files: bool = False
    """It sees other files than the agent: an own root or mount namespace."""
    other_network: bool = False
    homes: tuple[Home, ...] = ()
    """With `other_files`, in the order in which they are tried, up to the first that can be used."""
    program: Program | None = None
    """Its executable; None when it cannot be read, or is none that is known."""
    libc: Libc = STATIC
    memory: Memory | None = None
    """Of its cgroup; None when no limit is to be seen."""


@dataclass(frozen=True)
class Facts:
    agent: AgentFacts
    target: TargetFacts

    @property
    def process(self) -> Process:
        return self.target.process

    @property
    def foreign(self) -> bool:
        """It belongs to another user than the agent."""
        return self.process.uid != self.agent.uid

    def missing(self, *wanted: Capability) -> list[Capability]:
        """Those that the agent does not have, or not over this process."""
        if not self.target.users_below:
            return list(wanted)
        return [each for each in wanted if each not in self.agent.capabilities]

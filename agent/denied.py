"""Why the kernel does not let the agent do what it wants: capabilities(7), ptrace(2), Yama's ptrace_scope."""

import os
from pathlib import Path

from agent.preflight.needs import Capability
from agent.process import Process
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason

YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")


def held() -> frozenset[Capability]:
    """The capabilities that count when this process does something."""
    own = procfs.status(os.getpid()) or {}
    return Capability.of(int(own.get("CapEff", "0"), 16))


def refused(message: str, *takes: Capability) -> SquashError:
    """For a PermissionError about the files of a process: which of the capabilities that it takes are missing."""
    missing = [f"CAP_{each.name}" for each in takes if each not in held()]
    if not missing:
        return SquashError(Reason.FILES_UNREADABLE, message)
    return SquashError(Reason.CAPABILITY_MISSING, f"{message}: that takes {' and '.join(missing)}")


def denied(process: Process, yama: Path = YAMA) -> SquashError:
    """Why the kernel did not let us."""
    pid = process.pid
    if tracer := process.tracer:
        return SquashError(Reason.TRACED_BY_OTHER, f"process {pid} is traced by process {tracer}")
    capable = Capability.SYS_PTRACE in held()
    try:
        scope = int(yama.read_text())
    except (OSError, ValueError):
        scope = 0
    if scope >= 3 or (scope >= 1 and not capable):
        return SquashError(Reason.PTRACE_SCOPE, f"kernel.yama.ptrace_scope is {scope}: process {pid} cannot be traced")
    lack = "" if capable else " and has no CAP_SYS_PTRACE"
    return SquashError(
        Reason.PTRACE_DENIED,
        f"the agent (uid {os.geteuid()}) may not trace process {pid} (uid {process.uid}){lack}",
    )

"""Why the kernel does not let the agent trace a process (ptrace(2), Yama's ptrace_scope)."""

import os
from pathlib import Path

from agent.process import Process
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason

YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
_SYS_PTRACE = 1 << 19


def denied(process: Process, yama: Path = YAMA) -> SquashError:
    """Why the kernel did not let us."""
    pid = process.pid
    if tracer := process.tracer:
        return SquashError(Reason.TRACED_BY_OTHER, f"process {pid} is traced by process {tracer}")
    own = procfs.status(os.getpid()) or {}
    capable = int(own.get("CapEff", "0"), 16) & _SYS_PTRACE
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

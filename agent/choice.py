"""Which process of a container is debugged, and with which debugger. Pure but for what debuggers look at to claim."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import PurePath

from agent.debuggers import OTHER_NAMES, Debugger, choose
from agent.process import Process
from squash.errors import SquashError
from squash.model import AttachmentSpec, Candidate
from squash.reasons import Reason

_SHOWN = 20
"""Candidates that are told of: a person chooses among them."""


class AmbiguousError(SquashError):
    """Several processes suit equally, and the attachment wants no choice made for it."""

    def __init__(self, candidates: list[Candidate]) -> None:
        shown = ", ".join(f"{each.pid} ({each.name})" for each in candidates)
        super().__init__(Reason.PROCESS_AMBIGUOUS, f"several processes suit equally: {shown}")
        self.candidates = candidates


def pick(processes: list[Process], debuggers: Mapping[str, Debugger], spec: AttachmentSpec) -> tuple[Process, Debugger]:
    """The process to debug and the debugger for it. `processes` are the container's, oldest first.

    Of those that the spec allows by pid and name, the one that a debugger claims most; of equals the oldest, or with
    `only_choice` none: AmbiguousError. Raises SquashError when nothing suits.
    """
    name = spec.debugger or ""
    name = name if name in debuggers else OTHER_NAMES.get(name, name)
    if name and name not in debuggers:
        known = ", ".join(sorted(debuggers))
        raise SquashError(Reason.UNKNOWN_DEBUGGER, f"debugger {spec.debugger!r} is not one of {known}")
    usable = [debuggers[name]] if name else list(debuggers.values())
    claims = [(process, max(plugin.claim(process) for plugin in usable)) for process in _allowed(processes, spec)]
    best, highest = max(claims, key=lambda claim: claim[1])
    if name and highest < 0:
        raise SquashError(
            Reason.DEBUGGER_UNSUITED, f"{name} does not suit process {best.pid} ({best.exe or best.comm})"
        )
    equals = [process for process, claim in claims if claim == highest]
    if spec.only_choice and highest >= 0 and len(equals) > 1:
        raise AmbiguousError([_candidate(process, choose(usable, process)) for process in equals[:_SHOWN]])
    return best, choose(usable, best)


def _allowed(processes: list[Process], spec: AttachmentSpec) -> list[Process]:
    """Those that the spec does not exclude; at least one. Raises SquashError."""
    found = [
        process
        for process in processes
        if (not spec.pid or process.pid == spec.pid) and (not spec.process_name or spec.process_name in _names(process))
    ]
    if found:
        return found
    seen = ", ".join(sorted({process.comm for process in processes})) or "none"
    wanted = f"with pid {spec.pid} " if spec.pid else ""
    wanted += f"named {spec.process_name!r} " if spec.process_name else ""
    raise SquashError(Reason.PROCESS_NOT_FOUND, f"no process {wanted}in the container; it runs: {seen}")


def _candidate(process: Process, debugger: Debugger) -> Candidate:
    # No arguments beyond the script's name: they may hold what is nobody's business.
    script = next((PurePath(word).name for word in process.cmdline[1:] if not word.startswith("-")), "")
    name = process.comm if debugger.protocol == "gdb" else f"{process.comm} {script}".strip()
    # A process may call itself anything; this is shown on terminals.
    shown = "".join(char if char.isprintable() else "?" for char in name)
    return Candidate(pid=process.pid, name=shown, debugger=debugger.name)


def _names(process: Process) -> set[str]:
    """What a person would call it: its executable, its own name for itself, the script or module it runs."""
    words = [process.exe, *process.cmdline[:1]]
    words += next(([word] for word in process.cmdline[1:] if not word.startswith("-")), [])
    words += [after for word, after in pairwise(process.cmdline) if word == "-m"]
    return {process.comm, *(PurePath(word).name for word in words if word)}

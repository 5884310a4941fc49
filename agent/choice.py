"""Which process of a container is debugged, and with which debugger. Pure but for what debuggers look at to claim."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import PurePath
from typing import NamedTuple

from agent import netdiag
from agent.debuggers import Debugger
from agent.process import Process
from squash.debuggers import proper_name
from squash.errors import SquashError
from squash.model import AttachmentSpec, Candidate
from squash.reasons import Reason

_SHOWN = 20
"""Candidates that are told of: a person chooses among them."""
_INTERPRETERS = re.compile(r"python|pypy|node|ruby|perl|php")
_CODE = ("-c", "-e", "-p", "-r", "--eval", "--print")
"""What comes after them is code."""
_TRACKER = re.compile(r"\b(resource|semaphore)_tracker import main\b")
_FORK_SERVER = re.compile(r"\bmultiprocessing\.forkserver import main\b")
"""In the command lines of what multiprocessing starts besides its workers; a fork server's workers keep its own."""
_NAMED = 5
"""Processes that were not chosen and are named all the same."""
SUPERVISORS = frozenset(
    {
        *("init", "systemd", "tini", "dumb-init", "docker-init", "catatonit", "conmon", "pause", "multirun"),
        *("s6-svscan", "s6-supervise", "runsv", "runsvdir", "supervisord", "circusd", "monit"),
        *("honcho", "foreman", "forego", "goreman", "hivemind", "overmind", "pm2", "pm2-runtime"),
    }
)
"""What starts services and is none: debugged only when it is named, or there is nothing else."""
MASTERS = frozenset(
    {
        *("gunicorn", "uwsgi", "uvicorn", "hypercorn", "granian", "flask", "manage.py"),
        *("nginx", "php-fpm", "apache2", "httpd", "unicorn"),
    }
)
"""Servers whose first process leaves the requests to its children, once it has any."""


class Choice(NamedTuple):
    process: Process
    debugger: Debugger
    why: str
    """Why this one, and which there were besides: for people."""


class Claim(NamedTuple):
    """How well a process suits the best debugger for it; below 0: not at all."""

    process: Process
    height: float
    debugger: Debugger


class AmbiguousError(SquashError):
    """Several processes suit equally, and the attachment wants no choice made for it."""

    def __init__(self, candidates: list[Candidate]) -> None:
        shown = ", ".join(f"{each.pid} ({each.name})" for each in candidates)
        super().__init__(Reason.PROCESS_AMBIGUOUS, f"several processes suit equally: {shown}")
        self.candidates = candidates


def _listens(process: Process) -> bool:
    """Whether it has a socket on which connections come in, as far as that can be seen."""
    try:
        return bool(netdiag.listening(process.pid))
    except OSError:
        return False


Listens = Callable[[Process], bool]


def pick(
    processes: list[Process], debuggers: Mapping[str, Debugger], spec: AttachmentSpec, listens: Listens = _listens
) -> Choice:
    """The process to debug and the debugger for it. `processes` are the container's, oldest first.

    Of those that the spec allows by pid and name, the one that a debugger claims most, supervisors last; of equals the
    oldest that `listens`, or else the oldest, or with `only_choice` none: AmbiguousError. Raises SquashError when
    nothing suits.
    """
    name = proper_name(spec.debugger or "", debuggers)
    if name and name not in debuggers:
        known = ", ".join(sorted(debuggers))
        raise SquashError(Reason.UNKNOWN_DEBUGGER, f"debugger {spec.debugger!r} is not one of {known}")
    usable = [debuggers[name]] if name else list(debuggers.values())
    allowed = _allowed(processes, spec)
    claims = [_claim(process, usable) for process in allowed]
    serving = claims if spec.pid else _serving(claims, listens, named=bool(spec.process_name))
    best, highest, debugger = max(serving, key=lambda claim: claim.height)
    if highest < 0:
        raise _unsuited(best, name, usable)
    equals = [claim for claim in serving if claim.height == highest]
    if len(equals) > 1:
        if spec.only_choice:
            raise AmbiguousError([_candidate(claim.process, claim.debugger) for claim in equals[:_SHOWN]])
        best, _, debugger = next((claim for claim in equals if listens(claim.process)), equals[0])
    return Choice(best, debugger, _why(best, debugger, claims, serving, len(processes), spec))


def _claim(process: Process, debuggers: Sequence[Debugger]) -> Claim:
    """Of equals the first by name."""
    claims = ((plugin.claim(process), plugin) for plugin in debuggers)
    height, debugger = min(claims, key=lambda claim: (-claim[0], claim[1].name))
    return Claim(process, height, debugger)


def _unsuited(process: Process, name: str, debuggers: Sequence[Debugger]) -> SquashError:
    what = f"process {process.pid} ({process.exe or process.comm})"
    if name:
        return SquashError(Reason.DEBUGGER_UNSUITED, f"{name} does not suit {what}")
    known = ", ".join(sorted(plugin.name for plugin in debuggers))
    return SquashError(Reason.NO_DEBUGGER_CLAIMS, f"none of {known} suits {what}")


def _serving(claims: Sequence[Claim], listens: Listens, *, named: bool) -> Sequence[Claim]:
    """Without those that serve nothing themselves, as long as others suit that do. `named`: by name they may all be."""
    processes = {claim.process.pid: claim.process for claim in claims}
    left = [claim for claim in claims if not _is_helper(claim.process, processes)]
    if not named:
        starters = _masters(left, processes, listens)
        left = [
            claim for claim in left if claim.process.pid not in starters and not _names(claim.process) & SUPERVISORS
        ]
    return left if any(claim.height >= 0 for claim in left) else claims


def _masters(claims: Sequence[Claim], processes: Mapping[int, Process], listens: Listens) -> set[int]:
    """Pids of servers that leave the requests to their children."""
    found = set()
    for master in claims:
        if _is_master(master.process):
            children = [claim for claim in claims if _parent(claim.process, processes) == master.process.pid]
            # Helpers that a server starts, such as a shell, are no workers; nor is what listens to nobody, if it does.
            workers = [child.process for child in children if child.height >= master.height]
            if workers and (not listens(master.process) or any(map(listens, workers))):
                found.add(master.process.pid)
    return found


def _parent(process: Process, processes: Mapping[int, Process]) -> int:
    """Who had it started: not the fork server, which was only the way."""
    parent = processes.get(process.ppid)
    return parent.ppid if parent and _is_helper(parent, processes) else process.ppid


def _is_helper(process: Process, processes: Mapping[int, Process]) -> bool:
    """Whether multiprocessing started it for itself: it never runs a line of the program."""
    code = " ".join(process.cmdline)
    if _FORK_SERVER.search(code):
        parent = processes.get(process.ppid)
        return not parent or not _FORK_SERVER.search(" ".join(parent.cmdline))
    return bool(_TRACKER.search(code))


def _is_master(process: Process) -> bool:
    # Some change what they are called: `gunicorn: master [shop]`, `nginx: master process`.
    return bool({re.split(r"[:\s]", name)[0] for name in _names(process)} & MASTERS)


def _allowed(processes: list[Process], spec: AttachmentSpec) -> list[Process]:
    """Those that the spec does not exclude; at least one. Raises SquashError."""
    found = [
        process
        for process in processes
        if (not spec.pid or process.pid == spec.pid) and (not spec.process_name or spec.process_name in _names(process))
    ]
    if found:
        return found
    if not processes:
        message = "the container runs no process here: it has ended, or was started again under another id"
        raise SquashError(Reason.PROCESS_NOT_FOUND, message)
    seen = ", ".join(sorted({process.comm for process in processes}))
    wanted = f"with pid {spec.pid} " if spec.pid else ""
    wanted += f"named {spec.process_name!r} " if spec.process_name else ""
    raise SquashError(Reason.PROCESS_NOT_FOUND, f"no process {wanted}in the container; it runs: {seen}")


def _why(
    best: Process,
    debugger: Debugger,
    claims: Sequence[Claim],
    serving: Sequence[Claim],
    number: int,
    spec: AttachmentSpec,
) -> str:
    height = next(claim.height for claim in claims if claim.process == best)
    equals = [claim for claim in serving if claim.height == height]
    among = f"{len(claims)} named {spec.process_name!r}" if spec.process_name else str(number)
    if spec.pid:
        why = "its pid was asked for"
    elif number == 1:
        why = "the only process of the container"
    elif len(claims) == 1:
        why = f"the only one of {number} that is named {spec.process_name!r}"
    elif len(equals) > 1:
        which = "the oldest" if best == equals[0].process else "the one that listens"
        why = f"{which} of {len(equals)} that suit equally; a request may as well reach another"
    else:
        why = f"of {among} the one that suits best"
    others = [_other(claim, serving) for claim in claims if claim.process != best]
    more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    besides = f"; besides: {', '.join(others[:_NAMED])}{more}" if others else ""
    return f"process {best.pid} ({_shown(best)}) for {debugger.name}: {why}{besides}"


def _other(claim: Claim, serving: Sequence[Claim]) -> str:
    suits = f"suits {claim.height:g}" if claim.height >= 0 else "suits no debugger"
    note = "a helper" if _TRACKER.search(" ".join(claim.process.cmdline)) else "starts others"
    note = suits if claim in serving else note
    return f"{claim.process.pid} ({_shown(claim.process)}, {note})"


def _candidate(process: Process, debugger: Debugger) -> Candidate:
    name = process.comm if debugger.protocol == "gdb" else _called(process)
    return Candidate(pid=process.pid, name=_printable(name), debugger=debugger.name)


def _shown(process: Process) -> str:
    return _printable(_called(process))


def _called(process: Process) -> str:
    """What it runs as, and of an interpreter the script's name: other arguments may be nobody's business."""
    words = process.cmdline[1:] if _INTERPRETERS.match(process.comm) else ()
    script = next((word for word in words if not word.startswith("-") or word in _CODE), "")
    return process.comm if script in _CODE else f"{process.comm} {PurePath(script).name}".strip()


def _printable(name: str) -> str:
    """A process may call itself anything; this is shown on terminals."""
    return "".join(char if char.isprintable() else "?" for char in name)


def _names(process: Process) -> set[str]:
    """What a person would call it: its executable, its own name for itself, the script or module it runs."""
    words = [process.exe, *process.cmdline[:1]]
    words += next(([word] for word in process.cmdline[1:] if not word.startswith("-")), [])
    words += [after for word, after in pairwise(process.cmdline) if word == "-m"]
    return {process.comm, *(PurePath(word).name for word in words if word)}

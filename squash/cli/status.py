"""`squashctl status`: whether everything is there, and what goes on now."""

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from squash.cli.describe import container, patience
from squash.cli.exits import Exit
from squash.cli.front import Config, Json, Server, front
from squash.cli.output import drawn
from squash.cli.parameters import age
from squash.errors import ApiError
from squash.model import Agent, Coordinator, DebugAttachment, DebugRequest, Outcome, Phase, Sighting, State, Struct
from squash.reasons import Reason

if TYPE_CHECKING:
    from squash.client import Call, Client

T = TypeVar("T")
_LAST = 3_600.0
"""Seconds for which a problem is shown."""
_USUAL = (Reason.RELEASED, Reason.ENDED, Reason.CLIENT_GONE, Reason.CALLER_GONE, Reason.NO_PENDING_REQUEST)
"""What developers and callers do; no problem of anything that runs."""


class Problem(Struct, frozen=True, kw_only=True):
    """Something that is, or lately went, wrong. `time` in unix seconds."""

    time: float
    what: str
    reason: Reason
    message: str
    remedy: str


class Status(Struct, frozen=True, kw_only=True):
    """What `--json` writes. `healthy` is what the exit status tells."""

    server_url: str
    healthy: bool
    coordinator: Coordinator
    agents: tuple[Agent, ...] = ()
    holds: tuple[DebugAttachment, ...] = ()
    sessions: tuple[DebugAttachment, ...] = ()
    waiting: tuple[DebugRequest, ...] = ()
    problems: tuple[Problem, ...] = ()


def status(
    problems: Annotated[int, typer.Option(min=0, help="How many of the last problems to show.")] = 5,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show the coordinator, its agents, what is held and debugged, what waits, and the last problems.

    Ends with status 0 when all is well, 1 when something that should work does not, 3 when the coordinator is away.
    """
    with front(server, config, as_json) as squash:
        found = _look(squash.client, problems)
        if as_json:
            squash.output.document(found)
        else:
            squash.output.lines(*_lines(found, time.time()))
    if not found.healthy:
        raise typer.Exit(Exit.REFUSED)


def _look(client: "Client", most: int) -> Status:
    from squash.client import (  # noqa: PLC0415 - slow to import
        about,
        list_agents,
        list_attachments,
        list_requests,
        list_sightings,
    )

    coordinator = client.send(about())
    now = time.time()
    attachments = client.send(list_attachments())
    problems = [problem for problem in map(_failed, attachments) if problem and now - problem.time < _LAST]
    problems += [_passed(one) for one in _tolerant(client, list_sightings(limit=100), []) if _is_problem(one, now)]
    problems.sort(key=lambda problem: -problem.time)
    agents = client.send(list_agents())
    faults = [*_faults(coordinator, now), *_away(agents, attachments, now)]
    return Status(
        server_url=client.url,
        healthy=not faults,
        coordinator=coordinator,
        agents=tuple(agents),
        holds=tuple(each for each in attachments if each.spec.holder and not each.status.state.final),
        sessions=tuple(each for each in attachments if _is_session(each)),
        waiting=tuple(each for each in client.send(list_requests()) if not each.status.debug_attachment_ref),
        problems=(*faults, *problems[:most]),
    )


def _faults(coordinator: Coordinator, now: float) -> Iterator[Problem]:
    """What does not work now."""
    if coordinator.store_fault:
        reason = Reason.STORE_UNAVAILABLE
        yield Problem(time=now, what="the store", reason=reason, message=coordinator.store_fault, remedy=reason.remedy)


def _away(agents: Sequence[Agent], attachments: Sequence[DebugAttachment], now: float) -> Iterator[Problem]:
    """Nodes that want an agent, or had one, and have none."""
    served = {agent.node for agent in agents if not agent.lost}
    wanted = {each.spec.node for each in attachments if each.spec.node and not each.status.state.final}
    lost = {agent.node for agent in agents if agent.lost}
    for node in sorted((wanted | lost) - served) or ([] if served else ["?"]):
        message = f"no agent serves node {node}" if node != "?" else "no agent is there"
        reason = Reason.AGENT_AWAY
        yield Problem(time=now, what="agents", reason=reason, message=message, remedy=reason.remedy)


def _failed(attachment: DebugAttachment) -> Problem | None:
    status, times = attachment.status, attachment.status.times or {}
    if status.state is not State.ERROR or not status.reason or status.reason in _USUAL:
        return None
    return Problem(
        time=times.get(State.ERROR.value, 0.0),
        what=f"{attachment.name} {container(attachment)}",
        reason=status.reason,
        message=status.message or status.reason.meaning,
        remedy=status.reason.remedy,
    )


def _is_problem(one: Sighting, now: float) -> bool:
    """Those of an attachment are told by the attachment."""
    wrong = one.outcome in (Outcome.ERROR, Outcome.UNAVAILABLE, Outcome.OVERLOADED)
    return wrong and not one.attachment and one.reason not in (None, *_USUAL) and now - one.time < _LAST


def _passed(one: Sighting) -> Problem:
    reason = one.reason or Reason.INTERNAL
    where = "/".join(part for part in (one.namespace, one.pod, one.container) if part)
    what = " ".join(part for part in ("marked request", one.method, one.path, f"at {where}" if where else "") if part)
    return Problem(time=one.time, what=what, reason=reason, message=one.message or reason.meaning, remedy=reason.remedy)


def _is_session(attachment: DebugAttachment) -> bool:
    status = attachment.status
    return status.state is not State.ERROR and bool(status.debug_server_address) and status.phase is not Phase.DETACHED


def _tolerant(client: "Client", call: "Call[T]", otherwise: T) -> T:
    """The answer, or what stands for it where the coordinator is older or lets us see less."""
    try:
        return client.send(call)
    except ApiError:
        return otherwise


def _lines(found: Status, now: float) -> list[str]:
    known = found.coordinator
    since = f", up {age(now - known.started)}" if known.started else ""
    lines = [
        f"{'coordinator':<14} {found.server_url}, version {known.version}{since}, "
        f"store {known.store}, platform {known.platform}, authentication {known.auth}"
    ]
    agents = [_agent(each, now) for each in found.agents]
    lines += _table("agents", ("NODE", "STATE", "UP", "SEEN", "DEBUGGERS"), agents, "none is there")
    waiting = [
        (each.name[:12], each.spec.image, each.spec.debugger or "any", each.spec.owner or "-", age(_since(each, now)))
        for each in found.waiting
    ]
    lines += _table("debug requests", ("ID", "IMAGE", "DEBUGGER", "OWNER", "WAITS"), waiting, "none waits")
    lines += _table("holds", _HEAD, [_row(each, now) for each in found.holds], "nothing is held")
    lines += _table("sessions", _HEAD, [_row(each, now) for each in found.sessions], "no debugger is attached")
    told = [(age(now - each.time), each.what, each.reason, each.message) for each in found.problems]
    return lines + _table("problems", ("AGO", "WHERE", "REASON", "MESSAGE"), told, "none in the last hour")


_HEAD = ("ID", "CONTAINER", "PHASE", "DEBUGGER", "OWNER", "CLIENT", "AGE", "REQUEST")


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> list[str]:
    if not rows:
        return [f"{title:<14} {nothing}"]
    return ["", title, *(f"  {line}" for line in drawn(head, rows).splitlines()), ""]


def _agent(each: Agent, now: float) -> tuple[str, ...]:
    state = "lost" if each.lost else "there"
    debuggers = ", ".join(each.debuggers) or "-"
    return each.node, state, age(now - (each.since or now)), age(now - (each.seen or now)), debuggers


def _row(each: DebugAttachment, now: float) -> tuple[str, ...]:
    spec, status = each.spec, each.status
    held = spec.held
    what = " ".join(part for part in (held.method, held.path) if part) if held else "-"
    if left := patience(each, now):
        what += f"; {left}"
    since = (status.times or {}).get(State.NONE.value, now)
    return (
        each.name[:12],
        container(each),
        str(status.phase or status.state),
        status.debugger or spec.debugger or "any",
        spec.owner or "-",
        status.client or "-",
        age(now - since),
        what,
    )


def _since(request: DebugRequest, now: float) -> float:
    return now - (request.status.created or now)

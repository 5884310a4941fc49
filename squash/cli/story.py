"""The whole story of an attachment or of a marked request that was not held: what happened, why, and what to do. Pure.

`Story` is what `squashctl explain` shows; each `told_of_…` makes one from what the coordinator knows.
"""

import shlex
from collections.abc import Iterable, Iterator, Sequence

from squash.cli.describe import container
from squash.cli.lost import Hop, trace_of
from squash.model import (
    Action,
    Attempt,
    AuditEntry,
    DebugAttachment,
    DebugRequest,
    HoldUntil,
    Outcome,
    Phase,
    Sighting,
    State,
    Struct,
)
from squash.reasons import Reason
from squash.result import MARK, Result

_TOLD_BY_TIMES = frozenset(
    {
        Action.REQUEST_CREATED,
        Action.ATTACHMENT_CREATED,
        Action.MATCHED,
        Action.CLAIMED,
        Action.ATTACHED,
        Action.FAILED,
        Action.LET_GO,
    }
)
"""Of the audit trail: what the attachment's own times tell as well."""
_OUTCOMES = {
    Outcome.ATTACHED: "the request went on with the debugger where it was asked for",
    Outcome.NO_MATCH: "the request went on at once: no debug request waited for it",
    Outcome.ERROR: "the request went on: the debugger could not be attached",
    Outcome.TIMEOUT: "the request went on: no debugger was ready in time",
    Outcome.RELEASED: "the request went on: a developer let it go",
    Outcome.CALLER_GONE: "the request did not go on: its caller hung up while it was held",
    Outcome.UNAVAILABLE: "the request went on: coordinator or sidecar could not be reached",
    Outcome.OVERLOADED: "the request went on: the sidecar held as many others as it may",
}


class Step(Struct, frozen=True, kw_only=True):
    """One thing that happened. `time` in unix seconds; absent for what only belongs to the step before."""

    time: float | None = None
    text: str
    who: str | None = None


class Story(Struct, frozen=True, kw_only=True):
    """`about`: what is told of, in words; `next`: commands and deeds for now."""

    about: str
    steps: tuple[Step, ...] = ()
    outcome: Outcome | None = None
    reason: Reason | None = None
    message: str | None = None
    meaning: str | None = None
    remedy: str | None = None
    next: tuple[str, ...] = ()
    attachment: str | None = None
    request: str | None = None


def told_of_attachment(attachment: DebugAttachment, audit: Sequence[AuditEntry], around: Sequence[Sighting]) -> Story:
    """`around`: the other sightings of its trace."""
    spec, status = attachment.spec, attachment.status
    held = spec.held
    what = " ".join(part for part in (held.method, held.path) if part) if held else ""
    about = f"debug attachment {attachment.name} of {container(attachment)}"
    about += f", image {spec.image}" if spec.image else ""
    about = f"marked request {what or '(method and path not told)'}, {about}" if spec.holder or held else about
    steps = [*_of_times(attachment), *_of_audit(audit), *_of_sightings(around)]
    reason = status.reason
    return Story(
        about=about,
        steps=_in_order(steps, _of_attempts(attachment)),
        outcome=status.outcome,
        reason=reason,
        message=status.message,
        meaning=reason.meaning if reason else None,
        remedy=reason.remedy if reason else None,
        next=tuple(_next_of_attachment(attachment)),
        attachment=attachment.name,
        request=spec.debug_request,
    )


def told_of_request(request: DebugRequest, around: Sequence[Sighting], lost: Sequence[str]) -> Story:
    """Of a debug request that was not matched yet; `around`: sightings of its image, `lost`: why none came there."""
    spec, status = request.spec, request.status
    steps = [Step(time=status.created, text=_wish(request), who=spec.owner)]
    # A lease is renewed every few seconds; the last time says whether whoever asked is still there.
    if status.renewed:
        steps.append(Step(time=status.renewed, text="renewed: whoever asked is still there", who=spec.owner))
    return Story(
        about=f"debug request {request.name}: the next marked request that reaches image {spec.image}",
        steps=_in_order([*steps, *_of_sightings(around)], []),
        message="; ".join(lost) or None,
        next=(
            f"send a request with the header {MARK} through the Envoy in front of a container of {spec.image}",
            *(["what came was not held for this request: compare the reasons above"] if around else []),
            f"take it back: squashctl delete {request.name}",
        ),
        request=request.name,
    )


def told_of_sightings(about: str, around: Sequence[Sighting]) -> Story:
    """Of marked requests that were not held, the newest first in `around`."""
    newest = around[0]
    reason = newest.reason
    return Story(
        about=about,
        steps=_in_order(list(_of_sightings(around)), []),
        outcome=newest.outcome,
        reason=reason,
        message=newest.message,
        meaning=reason.meaning if reason else None,
        remedy=reason.remedy if reason else None,
        next=tuple(_next_of(reason, newest.image)),
        attachment=newest.attachment,
    )


def told_of_result(result: Result) -> Story:
    """Of a header `x-squash-result` alone, when nothing else is known of that request."""
    reason = result.reason or (Reason.NO_PENDING_REQUEST if result.outcome is Outcome.NO_MATCH else None)
    held = f", held for {result.held:.3f} s" if result.held is not None else ""
    return Story(
        about=f"a marked request with the outcome {result.outcome}{held}",
        outcome=result.outcome,
        reason=reason,
        meaning=reason.meaning if reason else None,
        remedy=reason.remedy if reason else None,
        next=tuple(_next_of(reason, None)),
        attachment=result.id,
    )


def outcome_in_words(outcome: Outcome) -> str:
    return _OUTCOMES[outcome]


# -- steps --------------------------------------------------------------------------------------------


def _of_times(attachment: DebugAttachment) -> Iterator[Step]:
    spec, status = attachment.spec, attachment.status
    times = status.times or {}
    texts: dict[str, tuple[str, str | None]] = {
        State.NONE.value: (_came(attachment), spec.holder if spec.match_request else spec.owner),
        State.ATTACHING.value: ("an agent took it", status.agent),
        Phase.RESOLVING.value: ("the agent looked for the process", status.agent),
        Phase.STARTING.value: (f"attaching {status.debugger or '?'} to process {status.pid or '?'}", status.agent),
        Phase.LISTENING.value: ("the debug server listened: a client could connect", status.agent),
        Phase.CLIENT_CONNECTED.value: ("a client connected", status.client),
        Phase.READY.value: ("ready: its breakpoints were set", status.client),
        State.ATTACHED.value: ("attached: the request may go", None),
        Phase.RELEASED.value: ("released without a debugger", None),
        State.ERROR.value: (f"over: {status.message or (status.reason or 'no reason given')}", None),
        "let_go": (_let_go(attachment), spec.holder),
        Phase.DETACHED.value: ("detached: the debugger was out, the process ran on", status.agent),
    }
    for key, (text, who) in texts.items():
        if key in times:
            yield Step(time=times[key], text=text, who=who)


def _came(attachment: DebugAttachment) -> str:
    spec = attachment.spec
    if not spec.match_request:
        return "a debugger was asked for"
    until = "a client is connected and its breakpoints are set" if spec.hold_until is HoldUntil.READY else "attached"
    return f"the request was held, for debug request {spec.debug_request or '?'}, until {until}"


def _let_go(attachment: DebugAttachment) -> str:
    times = attachment.status.times or {}
    held = times.get("let_go", 0.0) - times.get(State.NONE.value, 0.0)
    return f"the hold ended after {held:.3f} s: {attachment.status.outcome or '?'}"


def _of_attempts(attachment: DebugAttachment) -> list[Step]:
    status = attachment.status
    chosen = [Step(text=f"chose {status.choice}")] if status.choice else []
    return chosen + [
        Step(text=f"tried {each.strategy}, {each.seconds * 1000:.0f} ms: {_result(each)}")
        for each in status.attempts or []
    ]


def _result(attempt: Attempt) -> str:
    if attempt.reason:
        return f"{attempt.reason}: {attempt.message or attempt.reason.meaning}"
    return f"it worked, but: {attempt.message}" if attempt.message else "it worked"


def _of_audit(audit: Iterable[AuditEntry]) -> Iterator[Step]:
    for entry in audit:
        if entry.action not in _TOLD_BY_TIMES and entry.action is not Action.DETACHED:
            detail = f": {entry.detail}" if entry.detail else ""
            yield Step(time=entry.time, text=f"{entry.action.replace('_', ' ')}{detail}", who=entry.actor)


def _of_sightings(sightings: Iterable[Sighting]) -> Iterator[Step]:
    before: Sighting | None = None
    for one in sorted(sightings, key=lambda one: one.time):
        # Only within one trace: others have not passed the same services.
        same = before if before and trace_of(one) and trace_of(before) == trace_of(one) else None
        if dropped := Hop(one, same).dropped:
            yield Step(time=one.time, text=f"the mark was not whole: {dropped}")
        before = one
        where = "/".join(part for part in (one.namespace, one.pod, one.container) if part) or one.image or "?"
        what = " ".join(part for part in (one.method, one.path) if part) or "a marked request"
        why = f": {one.reason}" if one.reason else ""
        became = f"{one.outcome or 'held'}{why}"
        said = f" ({one.message})" if one.message else ""
        yield Step(time=one.time, text=f"{what} seen at {where}: {became}{said}")


def _in_order(steps: Iterable[Step], attempts: Sequence[Step]) -> tuple[Step, ...]:
    """By time; what was tried stands behind the beginning of the attach."""
    ordered = sorted(steps, key=lambda step: step.time or 0.0)
    place = next((n for n, step in enumerate(ordered, 1) if step.text.startswith("attaching ")), len(ordered))
    return *ordered[:place], *attempts, *ordered[place:]


def _wish(request: DebugRequest) -> str:
    spec = request.spec
    terms = [f"debugger {spec.debugger or 'any'}"]
    terms += [f"process {spec.process_name}"] if spec.process_name else []
    terms += [f"namespace {spec.namespace}"] if spec.namespace else []
    terms += [f"held until {spec.hold_until}"] if spec.hold_until else []
    return f"asked for: {', '.join(terms)}"


# -- what to do next ----------------------------------------------------------------------------------


def _next_of_attachment(attachment: DebugAttachment) -> Iterator[str]:
    name, status, spec = attachment.name, attachment.status, attachment.spec
    if status.state is State.ERROR or status.phase is Phase.DETACHED:
        if status.outcome is not Outcome.ATTACHED or status.reason:
            yield from _next_of(status.reason, spec.image)
    elif status.state is State.NONE:
        node = spec.node or "NODE"
        yield f"it waits for the agent on node {node}: see that `squash-agent --node {shlex.quote(node)}` runs there"
        yield f"or let the request go: squashctl release {name}"
    elif status.debug_server_address:
        yield f"connect: squashctl connect {name}"
        if not status.state.final:
            yield f"or let the request go: squashctl release {name}"
    else:
        yield f"wait for it: squashctl wait {name}"


def _next_of(reason: Reason | None, image: str | None) -> Iterator[str]:
    if reason in (Reason.NO_PENDING_REQUEST, Reason.EXPIRED, Reason.RELEASED, Reason.ENDED, Reason.CLIENT_GONE):
        yield f"ask for a debugger and send the request again: squashctl debug image {image or 'IMAGE'}"
    elif reason in (Reason.COORDINATOR_UNREACHABLE, Reason.AGENT_AWAY):
        yield "see what runs: squashctl status"
    elif reason:
        yield "do what is said above, then send the marked request again"

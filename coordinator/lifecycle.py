"""How one debug attachment may change: states and phases only forward, some fields only once, each step timed."""

from typing import Any, NoReturn

from msgspec.structs import replace

from squash.errors import ApiError
from squash.model import AttachmentSpec, AttachmentStatus, DebugAttachment, Metadata, Phase, State, StatusPatch
from squash.reasons import Reason

LET_GO = "let_go"
"""The key of `status.times` for the end of the hold."""
_ONCE = ("debug_server_address", "agent", "outcome")


def created(name: str, spec: AttachmentSpec, now: float) -> DebugAttachment:
    """A new attachment, whatever status its sender thought of."""
    status = AttachmentStatus(phase=Phase.LOCATED, times={State.NONE.value: now, Phase.LOCATED.value: now})
    return DebugAttachment(metadata=Metadata(name=name), spec=spec, status=status)


def patched(attachment: DebugAttachment, patch: StatusPatch, now: float) -> DebugAttachment:
    """The attachment with the fields of the patch. Raises ApiError 409 for a step backwards or a field set anew."""
    status = attachment.status
    if patch.state is not None and patch.state.rank <= status.state.rank:
        by = f" by agent {status.agent}" if status.agent and status.state is State.ATTACHING else ""
        _illegal(attachment, f"its state is {status.state}{by}; it moves forward only and cannot become {patch.state}")
    if patch.phase is not None and status.phase is not None and patch.phase.rank < status.phase.rank:
        _illegal(attachment, f"its phase is {status.phase}; it moves forward only and cannot become {patch.phase}")
    for field in _ONCE:
        old, new = getattr(status, field), getattr(patch, field)
        if old and new is not None and new != old:
            _illegal(attachment, f"its {field} is {old} and cannot become {new}")
    return _moved(attachment, now, **dict(patch.fields()))


def released(attachment: DebugAttachment, now: float, message: str) -> DebugAttachment:
    """Lets the request go without a debugger: only before the attachment is attached or in error."""
    return _moved(
        attachment,
        now,
        state=State.ERROR,
        reason=Reason.RELEASED,
        message=message,
        phase=max(attachment.status.phase or Phase.LOCATED, Phase.RELEASED, key=lambda phase: phase.rank),
    )


def ended(attachment: DebugAttachment, now: float) -> DebugAttachment:
    """A developer wants the debugger out; the agent says when it is."""
    return _moved(attachment, now, state=State.ERROR, reason=Reason.ENDED, message="ended by a developer")


def check_ready_by_hand(attachment: DebugAttachment) -> None:
    """Raises ApiError 409 unless its debug server waits for a client to be ready."""
    status = attachment.status
    if status.state is not State.ATTACHING or not status.debug_server_address:
        _illegal(attachment, f"it is {status.state} (phase {status.phase}): nobody waits for its client to be ready")


def renewed(attachment: DebugAttachment, now: float) -> DebugAttachment:
    """Its lease begins anew."""
    return replace(attachment, status=replace(attachment.status, renewed=now))


def lost(attachment: DebugAttachment, reason: Reason, message: str, now: float) -> DebugAttachment:
    """Nobody is left to carry it on."""
    return _moved(attachment, now, state=State.ERROR, reason=reason, message=message)


def expired(attachment: DebugAttachment, now: float) -> DebugAttachment:
    """The attachment after its lease, or its time to live, in which a sidecar that held would have ended it."""
    spec, status = attachment.spec, attachment.status
    lease_end = _lease_end(attachment)
    if lease_end is not None and lease_end <= now:
        message = f"whoever made it is gone: it was not renewed within {spec.lease:g} s, and no client had come"
        return _moved(attachment, now, state=State.ERROR, reason=Reason.EXPIRED, message=message)
    reason = Reason.HOLD_LOST if spec.holder and status.outcome is None else Reason.EXPIRED
    message = f"it was still {status.state} (phase {status.phase}) after {spec.ttl:g} s"
    return _moved(attachment, now, state=State.ERROR, reason=reason, message=message)


def deadline(attachment: DebugAttachment, retention: float) -> float | None:
    """When it expires or, over, is removed (unix seconds); None while nothing but its debugger ends it."""
    times = attachment.status.times or {}
    if is_over(attachment):
        return max(times[end] for end in (State.ERROR.value, Phase.DETACHED.value) if end in times) + retention
    ends = [_lease_end(attachment)]
    if not attachment.status.state.final and attachment.spec.ttl:
        ends.append(times[State.NONE] + attachment.spec.ttl)
    return min((end for end in ends if end is not None), default=None)


def is_over(attachment: DebugAttachment) -> bool:
    """Whether it failed, or its debugger is out."""
    status = attachment.status
    return status.state is State.ERROR or (status.state is State.ATTACHED and status.phase is Phase.DETACHED)


def _lease_end(attachment: DebugAttachment) -> float | None:
    """When the lease runs out (unix seconds); None without one, and once the agent looks after its clients."""
    spec, status = attachment.spec, attachment.status
    if not spec.lease or is_over(attachment) or (status.phase or Phase.LOCATED).rank >= Phase.CLIENT_CONNECTED.rank:
        return None
    return (status.renewed or (status.times or {})[State.NONE]) + spec.lease


def _moved(attachment: DebugAttachment, now: float, **fields: Any) -> DebugAttachment:
    old = attachment.status
    new = replace(old, **fields)
    times = dict(old.times or {})
    if new.state is not old.state:
        times[new.state.value] = now
    if new.phase is not old.phase and new.phase is not None:
        times[new.phase.value] = now
    if new.outcome is not old.outcome:
        times[LET_GO] = now
    return replace(attachment, status=replace(new, times=times))


def _illegal(attachment: DebugAttachment, message: str) -> NoReturn:
    raise ApiError(409, Reason.ILLEGAL_STEP, f"debug attachment {attachment.name}: {message}")

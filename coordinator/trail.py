"""The audit trail: who did what, as told by the changes that a decision makes. Values never stand in it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from coordinator.decision import AttachmentChange, Change, RequestChange
from squash.model import Action, AuditEntry, DebugAttachment, Phase, State
from squash.reasons import Reason

COORDINATOR = "coordinator"
"""The actor of what the coordinator does by itself."""
UNKNOWN = "unknown"
"""The actor of a call whose sender does not say who it is."""
MOST = 10_000
"""Entries of the longest answer."""


@dataclass(frozen=True)
class Wanted:
    """Which entries: the newest `limit` that have each value that is given. `since` in unix seconds."""

    attachment: str | None = None
    actor: str | None = None
    action: Action | None = None
    since: float | None = None
    limit: int = MOST

    def has(self, entry: AuditEntry) -> bool:
        return (
            (self.attachment is None or entry.attachment == self.attachment)
            and (self.actor is None or entry.actor == self.actor)
            and (self.action is None or entry.action is self.action)
            and (self.since is None or entry.time >= self.since)
        )


def entries(changes: Iterable[Change], actor: str, now: float) -> list[AuditEntry]:
    """What the changes mean to whoever reads the trail. `actor` made the call; objects may know better who it was."""
    changes = tuple(changes)
    gone = {change.name for change in changes if isinstance(change, AttachmentChange) and change.after is None}
    found: list[AuditEntry] = []
    for change in changes:
        if isinstance(change, AttachmentChange):
            found.extend(_of_attachment(change, actor, now))
        else:
            found.extend(_of_request(change, gone, actor, now))
    return found


def _of_request(change: RequestChange, gone: set[str], actor: str, now: float) -> Iterator[AuditEntry]:
    name, before, after = change
    if before is None and after is not None:
        who = after.spec.owner or actor
        yield AuditEntry(time=now, actor=who, action=Action.REQUEST_CREATED, request=name, image=after.spec.image)
    elif before is not None and after is None:
        ref = before.status.debug_attachment_ref
        if ref in gone:
            return  # the attachment's own removal tells it
        action = Action.REQUEST_EXPIRED if actor == COORDINATOR else Action.REQUEST_DELETED
        image = before.spec.image
        yield AuditEntry(time=now, actor=actor, action=action, request=name, image=image, attachment=ref)


def _of_attachment(change: AttachmentChange, actor: str, now: float) -> Iterator[AuditEntry]:
    _, before, after = change
    if after is None:
        # What was kept long enough goes without a word: its end was told.
        if before is not None and actor != COORDINATOR:
            yield _entry(before, actor, Action.DELETED, now)
    elif before is None:
        matched = after.spec.debug_request is not None
        # `creator` is proved, `holder` only said.
        who = (after.spec.creator or after.spec.holder) if matched else after.spec.owner
        yield _entry(after, who or actor, Action.MATCHED if matched else Action.ATTACHMENT_CREATED, now)
    else:
        yield from _of_step(before, after, actor, now)


def _of_step(before: DebugAttachment, after: DebugAttachment, actor: str, now: float) -> Iterator[AuditEntry]:
    old, new = before.status, after.status
    let_go = new.outcome is not None and old.outcome is None
    teller = (after.spec.holder if let_go else new.agent) or UNKNOWN
    who = teller if actor == UNKNOWN else actor
    if after.spec.ready_by_hand and not before.spec.ready_by_hand:
        yield _entry(after, actor, Action.READY_BY_HAND, now)
    if new.agent and not old.agent:
        claimant = new.agent if actor == UNKNOWN else actor
        yield _entry(after, claimant, Action.CLAIMED, now, new.agent if claimant != new.agent else None)
    if new.state is not old.state:
        if new.state is State.ATTACHED:
            yield _entry(after, who, Action.ATTACHED, now, new.debugger)
        elif new.state is State.ERROR:
            by_hand = new.reason in (Reason.RELEASED, Reason.ENDED)
            released = actor if by_hand else who
            yield _entry(after, released, Action.RELEASED if by_hand else Action.FAILED, now, new.reason)
    if new.phase is Phase.DETACHED and old.phase is not Phase.DETACHED:
        yield _entry(after, who, Action.DETACHED, now, new.reason)
    if let_go:
        yield _entry(after, who, Action.LET_GO, now, new.outcome)


def _entry(
    attachment: DebugAttachment, actor: str, action: Action, now: float, detail: str | None = None
) -> AuditEntry:
    return AuditEntry(
        time=now,
        actor=actor,
        action=action,
        attachment=attachment.name,
        request=attachment.spec.debug_request,
        image=attachment.spec.image,
        detail=str(detail) if detail else None,
    )

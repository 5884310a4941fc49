"""The shell around the board: each event is decided, kept, applied and told to those who wait, in that order.

All of that happens without a pause of the event loop, so that nobody sees a state that was not kept.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from coordinator import trail, wishes
from coordinator.board import Board
from coordinator.decision import AttachmentChange, Change, Decision, RequestChange
from coordinator.leases import Lost
from coordinator.limits import Usage
from coordinator.metrics import Metrics
from coordinator.platforms import Platform, located
from coordinator.presence import RETRY, Presence
from coordinator.sightings import Sightings
from coordinator.stores import Store
from coordinator.tickets import Tickets
from coordinator.waiting import Waiting
from squash import images
from squash.errors import ApiError
from squash.logs import Log
from squash.model import (
    LONGEST_TEXT,
    Action,
    Agent,
    AttachmentPatch,
    AttachmentSpec,
    AuditEntry,
    Container,
    DebugAttachment,
    DebugRequest,
    State,
    Wishes,
)
from squash.reasons import Reason
from squash.ticket import IssuedTicket, KeySet, TicketWish

T = TypeVar("T")
_LONGEST_SLEEP = 600.0
_log = Log("coordinator")


class Place(NamedTuple):
    """A container's image by its name and by its keys, and its namespace on platforms that have them."""

    image: str
    known_as: frozenset[str]
    namespace: str | None


class Service:
    """What the API can do. Refusals are ApiError; those of the store leave everything as it was."""

    def __init__(
        self,
        board: Board,
        store: Store,
        platform: Platform,
        waiting: Waiting,
        metrics: Metrics,
        sightings: Sightings,
        presence: Presence,
        tickets: Tickets,
        usage: Usage,
    ) -> None:
        self.board = board
        self.presence = presence
        self.usage = usage
        self.sightings = sightings
        self.tickets = tickets
        self.waiting = waiting
        self.metrics = metrics
        self.when_gone: Callable[[str], None] = lambda _: None
        """Told of each attachment that is removed: its name."""
        self._store = store
        self._platform = platform
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_for: float | None = None

    def start(self) -> None:
        """Takes up what the store has. Raises SettingError when that cannot be read."""
        kept = tuple(self._store.load())
        self.board.apply(kept)
        self.usage.apply(kept)
        self.presence.track(kept)
        self.presence.start(self._lose)
        # Nobody could renew anything while we were away.
        self._commit(self.board.resume(time.time()))
        _log.info("loaded", attachments=len(self.board.attachments), requests=len(self.board.requests))
        self._set_alarm()

    def stop(self) -> None:
        """Ends the waits and forgets the deadlines; the store stays as it is."""
        self.waiting.close()
        self.presence.stop()
        if self._alarm:
            self._alarm.cancel()
        self.tickets.close()

    async def create_attachment(
        self,
        wanted: DebugAttachment,
        actor: str,
        admitted: Callable[[DebugAttachment], DebugAttachment],
        check_place: Callable[[AttachmentSpec], None],
    ) -> DebugAttachment:
        """`actor`, here and below, is who makes the call, for the audit trail.

        `admitted` gives the attachment as the caller may create it, or raises ApiError; `check_place` raises ApiError
        when the container that was found may not be debugged.
        """
        # A taken name is told first: who lost our first answer must learn of it even when the container is gone.
        self.board.check_name_free(wanted.metadata.name)
        marked = wanted.spec.match_request or wanted.spec.holder is not None
        try:
            wanted = admitted(wanted)
            spec, claims = self.tickets.read(wanted.spec)
            wanted = replace(wanted, spec=await located(self._platform, spec))
            check_place(wanted.spec)
            with self.tickets.used(claims, wanted.spec):
                decision = self.board.create_attachment(wanted, time.time())
                self.usage.check_attachment(decision.result.spec)
                made = self._commit(decision, actor)
        except ApiError as error:
            if marked and error.reason is not Reason.NAME_TAKEN:
                self.sightings.refused(wanted.spec, error.reason, error.message, time.time())
            raise
        if marked:
            self.sightings.held(made, time.time())
        return made

    def patch_attachment(self, name: str, patch: AttachmentPatch, actor: str) -> DebugAttachment:
        return self._commit(self.board.patch_attachment(name, patch, time.time()), actor)

    def release_attachment(self, name: str, actor: str) -> DebugAttachment:
        return self._commit(self.board.release_attachment(name, time.time()), actor)

    def detach_attachment(self, name: str, actor: str) -> DebugAttachment:
        return self._commit(self.board.detach_attachment(name, time.time()), actor)

    def ready_attachment(self, name: str, actor: str) -> DebugAttachment:
        return self._commit(self.board.ready_attachment(name), actor)

    def renew_attachment(self, name: str) -> DebugAttachment:
        return self._commit(self.board.renew_attachment(name, time.time()))

    def delete_attachment(self, name: str, actor: str) -> None:
        self._commit(self.board.delete_attachment(name), actor)

    def create_request(self, wanted: DebugRequest, actor: str) -> DebugRequest:
        self.usage.check_request(wanted.spec)
        return self._commit(self.board.create_request(wanted, time.time()), actor)

    def renew_request(self, name: str) -> DebugRequest:
        return self._commit(self.board.renew_request(name, time.time()))

    def delete_request(self, name: str, actor: str) -> None:
        self._commit(self.board.delete_request(name, time.time()), actor)

    def create_ticket(self, wish: TicketWish, actor: str) -> IssuedTicket:
        """Raises ApiError 404 when it names a debug request that is not there, 403 for somebody else's."""
        if wish.request is not None:
            named = self.board.request(wish.request).spec
            if named.owner not in (None, wish.owner):
                raise ApiError(403, Reason.TICKET_SCOPE, f"debug request {wish.request} is of {named.owner}")
            if images.key(named.image) != images.key(wish.image):
                message = f"debug request {wish.request} is for image {named.image!r}, the ticket for {wish.image!r}"
                raise ApiError(422, Reason.INVALID, message)
        issued = self.tickets.issue(wish)
        detail = f"{issued.claims.jti} for {issued.claims.sub}"
        self._note(actor, Action.TICKET_ISSUED, detail, request=wish.request, image=wish.image)
        return issued

    def rotate_ticket_keys(self, actor: str, *, revoke: bool) -> KeySet:
        # Told first: a rotation that nobody can look up must not happen.
        self._note(actor, Action.KEYS_ROTATED, "earlier tickets revoked" if revoke else None)
        return self.tickets.rotate(revoke=revoke)

    async def place(self, attachment: Mapping[str, Any]) -> Place:
        """What is known of the container that is meant. Raises ApiError 404, 422."""
        spec = await located(self._platform, AttachmentSpec(attachment=dict(attachment)))
        namespace, image = spec.attachment.get("namespace"), spec.image or ""
        return Place(image, images.keys(image, spec.images or ()), namespace if isinstance(namespace, str) else None)

    def wishes(self, place: Place) -> Wishes:
        """The debug requests with a trigger that wait for such containers."""
        return wishes.told(place.image, self.board.wishes(place.known_as, place.namespace, time.time()))

    async def containers(self, wanted: Mapping[str, str]) -> list[Container]:
        """Those of the platform that have the `image`, `pod` and `namespace` that are wanted."""
        found = await self._platform.containers()
        return [each for each in found if all(_fits(each, *pair) for pair in wanted.items())]

    def renew_agent(self, agent: Agent) -> Agent:
        told, came = self.presence.renew(agent)
        if came:
            try:
                self._store.save((), [_of(agent, agent.name, Action.AGENT_JOINED)])
            except ApiError as error:
                # It is there all the same: its next renewal is news again.
                _log.warning("cannot keep that an agent joined", agent=agent.name, error=error.message)
            else:
                self.presence.noted(agent.name)
                _log.info("agent joined", agent=agent.name, node=agent.node)
        return told

    def give_up_agent(self, name: str, actor: str) -> None:
        """An unknown name is no error."""
        if agent := self.presence.find(name):
            self._store.save((), [_of(agent, name if actor == trail.UNKNOWN else actor, Action.AGENT_LEFT)])
            self.presence.give_up(name)
            _log.info("agent left", agent=name, node=agent.node)

    def _lose(self, lost: list[Lost], agents: list[Agent]) -> None:
        entries = [_of(agent, trail.COORDINATOR, Action.AGENT_LOST) for agent in agents]
        self._commit(self.board.lose(lost, time.time()), more=entries)
        for agent in agents:
            _log.warning("agent lost", agent=agent.name, node=agent.node)

    def _note(
        self, actor: str, action: Action, detail: str | None, *, request: str | None = None, image: str | None = None
    ) -> None:
        told = detail[:LONGEST_TEXT] if detail else None
        entry = AuditEntry(time=time.time(), actor=actor, action=action, request=request, image=image, detail=told)
        self._store.save((), [entry])

    def check_ready(self) -> None:
        """Raises ApiError 503 when the store cannot be written."""
        self._store.probe()

    def _commit(self, decision: Decision[T], actor: str = trail.COORDINATOR, more: Iterable[AuditEntry] = ()) -> T:
        """`more` goes into the audit trail with what the changes tell."""
        entries = [*more, *trail.entries(decision.changes, actor, time.time())]
        if decision.changes or entries:
            self._store.save(decision.changes, entries)
        if decision.changes:
            self.board.apply(decision.changes)
            self.presence.track(decision.changes)
            self.usage.apply(decision.changes)
            self._watch_holds(decision.changes)
            self.waiting.notify(decision.changes)
            self.metrics.count(decision.changes)
            for change in decision.changes:
                if isinstance(change, AttachmentChange) and change.after is None:
                    self.when_gone(change.name)
            _write_down(decision.changes)
            self._set_alarm()
        return decision.result

    def _watch_holds(self, changes: Iterable[Change]) -> None:
        for change in changes:
            if isinstance(change, AttachmentChange) and change.after and change.before:
                status = change.after.status
                if status.outcome is not change.before.status.outcome or status.state is State.ERROR:
                    self.sightings.ended(change.after)

    def _expire(self) -> None:
        self._alarm, self._alarm_for = None, None
        try:
            self._commit(self.board.expire(time.time()))
        except ApiError as error:
            _log.warning("cannot keep what expired, trying again", error=error.message, pause=RETRY)
            self._set_alarm(RETRY)
        else:
            self._set_alarm()

    def _set_alarm(self, pause: float = 0.0) -> None:
        """Wakes at the board's next deadline, in `pause` seconds at the earliest."""
        deadline = self.board.next_deadline()
        if self._alarm and deadline == self._alarm_for:
            return
        if self._alarm:
            self._alarm.cancel()
        self._alarm, self._alarm_for = None, deadline
        if deadline is not None:
            # Deadlines are of the wall clock, which may be set: never sleep for long.
            delay = min(max(deadline - time.time(), pause), _LONGEST_SLEEP)
            self._alarm = asyncio.get_running_loop().call_later(delay, self._expire)


def _of(agent: Agent, actor: str, action: Action) -> AuditEntry:
    detail = f"{agent.name} of node {agent.node}"[:LONGEST_TEXT]
    return AuditEntry(time=time.time(), actor=actor, action=action, detail=detail)


def _fits(container: Container, key: str, wanted: str) -> bool:
    if key == "image":
        return images.same(wanted, container.image)
    return container.attachment.get(key) == wanted


def _write_down(changes: Iterable[Change]) -> None:
    for change in changes:
        if isinstance(change, AttachmentChange):
            _write_attachment(change)
        else:
            _write_request(change)


def _write_attachment(change: AttachmentChange) -> None:
    name, before, after = change
    if after is None:
        _log.info("debug attachment removed", attachment=name)
    elif before is None:
        spec = after.spec
        _log.info(
            "debug attachment created",
            attachment=name,
            image=spec.image,
            node=spec.node,
            request=spec.debug_request,
            holder=spec.holder,
            ticket=spec.ticket_id,
        )
    else:
        news = {
            field: value
            for field in ("state", "phase", "agent", "pid", "debugger", "reason", "message", "outcome")
            if (value := getattr(after.status, field)) != getattr(before.status, field)
        }
        _log.info("debug attachment changed", attachment=name, **news)


def _write_request(change: RequestChange) -> None:
    name, before, after = change
    if after is None:
        _log.info("debug request removed", request=name)
    elif before is None:
        _log.info("debug request created", request=name, image=after.spec.image, debugger=after.spec.debugger)
    elif after.status.debug_attachment_ref != before.status.debug_attachment_ref:
        _log.info("debug request matched", request=name, attachment=after.status.debug_attachment_ref)

"""The board: which debug requests wait, which marked request matches one, and what may change.

Pure: each event takes the time and gives a `Decision` without changing anything; `apply` changes. Between the two
the caller keeps the changes, so that what cannot be kept never happened. Refusals are `ApiError`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from coordinator import lifecycle
from coordinator.deadlines import Deadlines
from coordinator.decision import AttachmentChange, Change, Decision, RequestChange
from coordinator.leases import Lost
from coordinator.meant import meant
from coordinator.pending import OPEN, Pending
from coordinator.unmatched import why_none
from squash import images, trigger
from squash.errors import ApiError
from squash.model import (
    AttachmentPatch,
    AttachmentSpec,
    DebugAttachment,
    DebugRequest,
    Metadata,
    Phase,
    RequestSpec,
    RequestStatus,
    State,
    Trigger,
)
from squash.reasons import Reason

_BATCH = 1_000


@dataclass(frozen=True)
class Policy:
    """Times in seconds: how long a request waits that names no ttl, and a finished attachment is kept."""

    request_ttl: float
    retention: float


class Board:
    """All debug attachments and debug requests. `new_name` makes unguessable names."""

    def __init__(self, policy: Policy, new_name: Callable[[], str]) -> None:
        self._policy = policy
        self._new_name = new_name
        self._attachments: dict[str, DebugAttachment] = {}
        self._requests: dict[str, DebugRequest] = {}
        self._pending = Pending()
        self._deadlines = Deadlines()
        self._by_node: dict[str, dict[str, None]] = {}
        self._by_holder: dict[str, dict[str, None]] = {}

    # -- looking ------------------------------------------------------------------------------------

    @property
    def attachments(self) -> Mapping[str, DebugAttachment]:
        return self._attachments

    @property
    def requests(self) -> Mapping[str, DebugRequest]:
        return self._requests

    @property
    def pending(self) -> int:
        """How many debug requests wait for a match."""
        return len(self._pending)

    def attachment(self, name: str) -> DebugAttachment:
        """Raises ApiError 404."""
        if found := self._attachments.get(name):
            return found
        raise ApiError(404, Reason.NOT_FOUND, f"there is no debug attachment {_short(name)!r}")

    def request(self, name: str) -> DebugRequest:
        """Raises ApiError 404."""
        if found := self._requests.get(name):
            return found
        raise ApiError(404, Reason.NOT_FOUND, f"there is no debug request {_short(name)!r}")

    def of_node(self, node: str) -> Iterator[DebugAttachment]:
        return (self._attachments[name] for name in self._by_node.get(node, ()))

    def of_holder(self, holder: str) -> Iterator[DebugAttachment]:
        return (self._attachments[name] for name in self._by_holder.get(holder, ()))

    def wishes(self, known_as: frozenset[str], namespace: str | None, now: float) -> Iterator[DebugRequest]:
        """The debug requests with a trigger that wait for such containers; of each trigger the oldest first.

        `known_as` are the keys of the container's image.
        """
        for kind in (Trigger.FAILURE, Trigger.LATENCY):
            for name in self._pending.of_image(known_as, kind):
                request = self._requests[name]
                if self._usable(name, now) and request.spec.namespace in (None, "", namespace):
                    yield request

    def next_deadline(self) -> float | None:
        """When `expire` has something to do next (unix seconds)."""
        return self._deadlines.next()

    # -- deciding -----------------------------------------------------------------------------------

    def check_name_free(self, name: str | None) -> None:
        """Raises ApiError 409 when an attachment has this name."""
        if name in self._attachments:
            raise ApiError(409, Reason.NAME_TAKEN, f"there is a debug attachment {name!r} already")

    def create_attachment(self, wanted: DebugAttachment, now: float) -> Decision[DebugAttachment]:
        """The attachment, its container located already; with `match_request` bound to the oldest fitting request.

        Raises ApiError 409 for a taken name, 404 when nothing matches.
        """
        self.check_name_free(wanted.metadata.name)
        name = wanted.metadata.name or self._new_name()
        if not wanted.spec.match_request:
            spec = replace(wanted.spec, debug_request=None, ready_by_hand=None)
            attachment = lifecycle.created(name, spec, now)
            return Decision((AttachmentChange(name, None, attachment),), attachment)
        request = self._match(wanted.spec, now)
        spec = replace(
            wanted.spec,
            debugger=request.spec.debugger or wanted.spec.debugger,
            process_name=request.spec.process_name or wanted.spec.process_name,
            hold_until=request.spec.hold_until or wanted.spec.hold_until,
            owner=request.spec.owner or wanted.spec.owner,
            read_only=request.spec.read_only or wanted.spec.read_only,
            # Whoever holds a request has no say in this.
            allow_terminate=request.spec.allow_terminate,
            debug_request=request.name,
            ready_by_hand=None,
        )
        attachment = lifecycle.created(name, spec, now)
        bound = replace(request, status=replace(request.status, debug_attachment_ref=name))
        changes = (RequestChange(request.name, request, bound), AttachmentChange(name, None, attachment))
        return Decision(changes, attachment)

    def patch_attachment(self, name: str, patch: AttachmentPatch, now: float) -> Decision[DebugAttachment]:
        """Raises ApiError 404, 400 when the patch names another object, 409 for an illegal step."""
        old = self.attachment(name)
        if patch.metadata.name not in (None, name):
            message = f"the path names {name!r}, the body {patch.metadata.name!r}"
            raise ApiError(400, Reason.NAME_MISMATCH, message)
        new = lifecycle.patched(old, patch.status, now)
        return Decision((AttachmentChange(name, old, new),) if new != old else (), new)

    def release_attachment(self, name: str, now: float) -> Decision[DebugAttachment]:
        """Lets the request go without a debugger; one that is in error already stays as it is.

        Raises ApiError 404, 409 when the request has gone on with its debugger.
        """
        old = self.attachment(name)
        if old.status.state is State.ERROR:
            return Decision((), old)
        if old.status.state is State.ATTACHED:
            message = f"debug attachment {name} is attached: its request has gone on already and cannot be released"
            raise ApiError(409, Reason.ILLEGAL_STEP, message)
        new = lifecycle.released(old, now, "released by a developer")
        return Decision((AttachmentChange(name, old, new),), new)

    def detach_attachment(self, name: str, now: float) -> Decision[DebugAttachment]:
        """Takes the debugger out and lets go what is held; one that is over already stays as it is. ApiError 404."""
        old = self.attachment(name)
        if not old.status.state.final:
            new = lifecycle.released(old, now, "released by a developer")
        elif old.status.state is State.ATTACHED and old.status.phase is not Phase.DETACHED:
            new = lifecycle.ended(old, now)
        else:
            return Decision((), old)
        return Decision((AttachmentChange(name, old, new),), new)

    def ready_attachment(self, name: str) -> Decision[DebugAttachment]:
        """A developer says that everything is ready; one that is attached already stays as it is.

        Raises ApiError 404, 409 when there is no debug server yet, or no more.
        """
        old = self.attachment(name)
        if old.status.state is State.ATTACHED:
            return Decision((), old)
        lifecycle.check_ready_by_hand(old)
        new = replace(old, spec=replace(old.spec, ready_by_hand=True))
        return Decision((AttachmentChange(name, old, new),) if new != old else (), new)

    def renew_attachment(self, name: str, now: float) -> Decision[DebugAttachment]:
        """Starts the attachment's lease anew. Raises ApiError 404."""
        old = self.attachment(name)
        new = lifecycle.renewed(old, now)
        return Decision((AttachmentChange(name, old, new),), new)

    def delete_attachment(self, name: str) -> Decision[None]:
        """Removes the attachment and the debug request that it used up; an unknown name is no error."""
        return Decision(tuple(self._removal(name)), None)

    def create_request(self, wanted: DebugRequest, now: float) -> Decision[DebugRequest]:
        """Raises ApiError 409 for a taken name, 422 for terms that do not go together."""
        if wrong := trigger.problem(wanted.spec):
            raise ApiError(422, Reason.INVALID, wrong)
        name = wanted.metadata.name or self._new_name()
        if name in self._requests:
            raise ApiError(409, Reason.NAME_TAKEN, f"there is a debug request {name!r} already")
        request = DebugRequest(metadata=Metadata(name=name), spec=wanted.spec, status=RequestStatus(created=now))
        return Decision((RequestChange(name, None, request),), request)

    def renew_request(self, name: str, now: float) -> Decision[DebugRequest]:
        """Starts the request's lease anew. Raises ApiError 404."""
        old = self.request(name)
        new = replace(old, status=replace(old.status, renewed=now))
        return Decision((RequestChange(name, old, new),), new)

    def resume(self, now: float) -> Decision[None]:
        """Starts all leases anew, after a time in which nobody could renew them."""
        changes: list[Change] = []
        for name, request in self._requests.items():
            if request.spec.lease:
                changes.extend(self.renew_request(name, now).changes)
        for name, attachment in self._attachments.items():
            if attachment.spec.lease and not lifecycle.is_over(attachment):
                changes.extend(self.renew_attachment(name, now).changes)
        return Decision(tuple(changes), None)

    def delete_request(self, name: str, now: float) -> Decision[None]:
        """Removes the request; what is held on its behalf is let go. An unknown name is no error."""
        if name not in self._requests:
            return Decision((), None)
        return Decision(tuple(self._withdrawal(name, now, f"its debug request {name} was deleted")), None)

    def lose(self, lost: Iterable[Lost], now: float) -> Decision[None]:
        """Ends attachments that nobody carries on; those that are over already stay as they are."""
        changes: list[Change] = []
        for name, reason, message in lost:
            old = self._attachments.get(name)
            if old and old.status.state is not State.ERROR:
                changes.append(AttachmentChange(name, old, lifecycle.lost(old, reason, message, now)))
        return Decision(tuple(changes), None)

    def expire(self, now: float) -> Decision[None]:
        """Ends what has outlived its ttl and removes what was kept long enough; at most a thousand at once."""
        changes: list[Change] = []
        for kind, name in self._deadlines.due(now):
            if kind == "request":
                gone = f"whoever made its debug request {name} is gone: it was not renewed in time"
                changes.extend(self._withdrawal(name, now, gone))
            elif lifecycle.is_over(old := self._attachments[name]):
                changes.extend(self._removal(name))
            else:
                changes.append(AttachmentChange(name, old, lifecycle.expired(old, now)))
            if len(changes) >= _BATCH:
                break
        return Decision(tuple(changes), None)

    # -- applying -----------------------------------------------------------------------------------

    def apply(self, changes: Iterable[Change]) -> None:
        """Makes the changes of a decision true. Also loads: changes from None to what the store had, oldest first."""
        for change in changes:
            if isinstance(change, AttachmentChange):
                self._apply_attachment(change)
            else:
                self._apply_request(change)

    def _apply_attachment(self, change: AttachmentChange) -> None:
        name, before, after = change
        if after is None:
            self._attachments.pop(name)
        else:
            self._attachments[name] = after
        deadline = lifecycle.deadline(after, self._policy.retention) if after else None
        self._deadlines.set(("attachment", name), deadline)
        if (some := after or before) and (before is None or after is None):
            _regroup(self._by_node, some.spec.node, name, after is not None)
            _regroup(self._by_holder, some.spec.holder, name, after is not None)
        if after and after.status.state.final and after.spec.debug_request:
            # What its request's lease was for is reached or lost.
            self._deadlines.set(("request", after.spec.debug_request), None)

    def _apply_request(self, change: RequestChange) -> None:
        name, _, after = change
        if after is None:
            self._requests.pop(name)
        else:
            self._requests[name] = after
        if after is None or after.status.debug_attachment_ref:
            self._pending.remove(name)
        elif name not in self._pending:
            spec = after.spec
            self._pending.add(
                name,
                spec.image,
                spec.debugger or OPEN,
                spec.process_name or OPEN,
                spec.namespace or OPEN,
                spec.trigger or Trigger.MARK,
            )
        self._deadlines.set(("request", name), self._deadline(after) if after else None)

    # -- matching -----------------------------------------------------------------------------------

    def _match(self, spec: AttachmentSpec, now: float) -> DebugRequest:
        name = self._pending.oldest(
            _keys(spec),
            spec.debugger or OPEN,
            spec.process_name or OPEN,
            lambda name: self._usable(name, now) and meant(self._requests[name], spec),
            _namespace(spec),
            spec.trigger or Trigger.MARK,
        )
        if name is not None:
            return self._requests[name]
        raise ApiError(404, Reason.NO_PENDING_REQUEST, self._why_none(spec, now))

    def _usable(self, name: str, now: float) -> bool:
        return self._expiry(self._requests[name]) > now

    def _deadline(self, request: DebugRequest) -> float | None:
        """When it is withdrawn (unix seconds); None when it has what it was for."""
        bound = request.status.debug_attachment_ref
        if not bound:
            return self._expiry(request)
        attachment = self._attachments.get(bound)
        return None if attachment and attachment.status.state.final else _lease_end(request)

    def _expiry(self, request: DebugRequest) -> float:
        expiry = (request.status.created or 0.0) + (request.spec.ttl or self._policy.request_ttl)
        lease = _lease_end(request)
        return expiry if lease is None else min(expiry, lease)

    def _why_none(self, spec: AttachmentSpec, now: float) -> str:
        kind = spec.trigger or Trigger.MARK
        same = self._pending.of_image(_keys(spec), kind)
        near = self._pending.of_repository(images.repository(spec.image or ""), kind)
        return why_none(spec, self._specs(same, now), self._specs(near, now))

    def _specs(self, names: Iterable[str], now: float) -> Iterator[RequestSpec]:
        return (self._requests[name].spec for name in names if self._usable(name, now))

    def _withdrawal(self, name: str, now: float, message: str) -> Iterator[Change]:
        request = self._requests[name]
        yield RequestChange(name, request, None)
        attachment = self._attachments.get(request.status.debug_attachment_ref or "")
        if attachment and not attachment.status.state.final:
            yield AttachmentChange(attachment.name, attachment, lifecycle.released(attachment, now, message))

    def _removal(self, name: str) -> Iterator[Change]:
        if attachment := self._attachments.get(name):
            yield AttachmentChange(name, attachment, None)
            request = self._requests.get(attachment.spec.debug_request or "")
            if request and request.status.debug_attachment_ref == name:
                yield RequestChange(request.name, request, None)


def _lease_end(request: DebugRequest) -> float | None:
    spec, status = request.spec, request.status
    return (status.renewed or status.created or 0.0) + spec.lease if spec.lease else None


def _regroup(groups: dict[str, dict[str, None]], group: str | None, name: str, there: bool) -> None:
    if group is None:
        return
    if there:
        groups.setdefault(group, {})[name] = None
    else:
        members = groups[group]
        del members[name]
        if not members:
            del groups[group]


def _namespace(spec: AttachmentSpec) -> str:
    """The container's namespace, on platforms that have them."""
    found = spec.attachment.get("namespace")
    return found if isinstance(found, str) else OPEN


def _keys(spec: AttachmentSpec) -> frozenset[str]:
    return images.keys(spec.image or "", spec.images or ())


def _short(name: str) -> str:
    return name if len(name) <= 64 else name[:61] + "..."

"""What became of the marked requests that sidecars told of: the last ones, in memory. Pure: time is passed in."""

from collections import OrderedDict
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from squash.model import AttachmentSpec, DebugAttachment, HeldRequest, Outcome, Sighting
from squash.reasons import TICKET_REFUSALS, Reason

BYTES = 8_388_608
"""Of all sightings together, as JSON: whoever sends long paths must not fill the memory."""
_OUTCOMES: dict[Reason, Outcome] = dict.fromkeys((Reason.NO_PENDING_REQUEST, *TICKET_REFUSALS), Outcome.NO_MATCH)
_OUTCOMES[Reason.LIMIT_REACHED] = Outcome.OVERLOADED
_OUTCOMES[Reason.STORE_UNAVAILABLE] = Outcome.UNAVAILABLE
_encode = msgspec.json.Encoder().encode


class Sightings:
    """At most `most`, and of BYTES together; the oldest go first."""

    def __init__(self, most: int, bytes_together: int = BYTES) -> None:
        self._most = most
        self._bytes_together = bytes_together
        self._seen: OrderedDict[int, tuple[Sighting, int]] = OrderedDict()
        self._held: dict[str, int] = {}
        self._count = 0
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._seen)

    def held(self, attachment: DebugAttachment, now: float) -> None:
        """A marked request was matched; `ended` tells how its hold ends."""
        self._add(_sighting(attachment.spec, now, attachment=attachment.name))
        self._held[attachment.name] = self._count

    def refused(self, spec: AttachmentSpec, reason: Reason, message: str, now: float) -> None:
        """A marked request was not held; `spec` as far as it was known."""
        outcome = _OUTCOMES.get(reason, Outcome.ERROR)
        self._add(_sighting(spec, now, outcome=outcome, reason=reason, message=message))

    def ended(self, attachment: DebugAttachment) -> None:
        """The hold is over, or its attachment is in error; one that is forgotten, or was none, is no matter."""
        number = self._held.get(attachment.name)
        if number is None:
            return
        status = attachment.status
        old, _ = self._seen[number]
        self._put(number, replace(old, outcome=status.outcome, reason=status.reason, message=status.message))
        if status.outcome is not None:
            del self._held[attachment.name]
        self._shrink()

    def newest(self, trace: str | None, limit: int) -> Iterator[Sighting]:
        """The newest first. `trace`: a trace id, a `traceparent` or an `x-request-id`."""
        left = limit
        for sighting, _ in reversed(self._seen.values()):
            if left == 0:
                return
            if trace is None or _is_of(sighting, trace):
                left -= 1
                yield sighting

    def _add(self, sighting: Sighting) -> None:
        self._count += 1
        self._put(self._count, sighting)
        self._shrink()

    def _put(self, number: int, sighting: Sighting) -> None:
        _, before = self._seen.get(number, (None, 0))
        size = len(_encode(sighting))
        self._seen[number] = sighting, size
        self._bytes += size - before

    def _shrink(self) -> None:
        while len(self._seen) > self._most or (self._bytes > self._bytes_together and len(self._seen) > 1):
            number, (sighting, size) = self._seen.popitem(last=False)
            self._bytes -= size
            if sighting.attachment and self._held.get(sighting.attachment) == number:
                del self._held[sighting.attachment]


def _sighting(
    spec: AttachmentSpec,
    now: float,
    *,
    attachment: str | None = None,
    outcome: Outcome | None = None,
    reason: Reason | None = None,
    message: str | None = None,
) -> Sighting:
    held = spec.held or HeldRequest()
    return Sighting(
        time=now,
        pod=_text(spec, "pod"),
        namespace=_text(spec, "namespace"),
        container=_text(spec, "container"),
        image=spec.image,
        images=spec.images,
        node=spec.node,
        method=held.method,
        path=held.path,
        request_id=held.request_id,
        traceparent=held.traceparent,
        mark=held.mark,
        outcome=outcome,
        reason=reason,
        attachment=attachment,
        message=message,
    )


def _text(spec: AttachmentSpec, key: str) -> str | None:
    """The platform's own object may hold anything."""
    value = spec.attachment.get(key)
    return value[:256] if isinstance(value, str) else None


def _is_of(sighting: Sighting, trace: str) -> bool:
    parts = (sighting.traceparent or "").split("-")
    return trace in (sighting.traceparent, sighting.request_id) or (len(parts) > 1 and parts[1] == trace)

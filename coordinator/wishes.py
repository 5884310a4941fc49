"""What a sidecar is told of the debug requests with a trigger that wait for its container."""

import hashlib
from collections.abc import Iterable

import msgspec

from squash.model import DebugRequest, Trigger, Wish, Wishes


def told(image: str, requests: Iterable[DebugRequest]) -> Wishes:
    """`revision` is made from the rest, so that it outlives this process and needs no memory of what was told."""
    wishes = [_wish(request) for request in requests]
    content = msgspec.json.encode((image, wishes))
    return Wishes(revision=hashlib.sha256(content).hexdigest()[:16], image=image, wishes=wishes)


def _wish(request: DebugRequest) -> Wish:
    spec = request.spec
    return Wish(
        name=request.name,
        trigger=spec.trigger or Trigger.MARK,
        statuses=spec.statuses,
        threshold=spec.threshold,
        methods=spec.methods,
        path=spec.path,
    )

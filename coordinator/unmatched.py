"""Why no debug request was found for a container, in words for whoever wonders. Pure."""

from collections.abc import Iterable
from itertools import islice

from squash.model import AttachmentSpec, RequestSpec

_SHOWN = 5
_LOOKED_AT = 50
"""Debug requests that an explanation is made from, however many wait."""


def why_none(spec: AttachmentSpec, same: Iterable[RequestSpec], near: Iterable[RequestSpec]) -> str:
    """`same`: what waits for the image on other terms; `near`: what waits for its repository, whatever the tag.

    Both oldest first; only as much of them is taken as is told.
    """
    others = [_wish(asked.debugger, asked.process_name, asked.namespace) for asked in islice(same, _SHOWN)]
    of = f" of {spec.owner or 'nobody in particular'}" if spec.ticket_id else ""
    message = f"no debug request{of} waits for image {spec.image!r}"
    if others:
        namespace = spec.attachment.get("namespace")
        own = _wish(spec.debugger, spec.process_name, namespace if isinstance(namespace, str) else None)
        return f"{message} with {own}; those that wait for it ask for {', '.join(dict.fromkeys(others))}"
    # Most often another tag was meant.
    images = list(dict.fromkeys(asked.image for asked in islice(near, _LOOKED_AT)))[:_SHOWN]
    return f"{message}, which the container runs; requests are pending for {', '.join(images)}" if images else message


def _wish(debugger: str | None, process_name: str | None, namespace: str | None) -> str:
    return f"debugger {debugger or 'any'}, process {process_name or 'any'}, namespace {namespace or 'any'}"

"""Whether a debug request is meant for what is held, beyond image and terms: its ticket, or what set it off. Pure."""

from squash import trigger
from squash.model import AttachmentSpec, DebugRequest, Failure, HeldRequest, Trigger


def meant(request: DebugRequest, spec: AttachmentSpec) -> bool:
    """A request held with a ticket is for a debug request of the ticket's developer, or for the one that it names.

    A ticket without a developer is for debug requests without an owner.
    """
    if spec.trigger not in (None, Trigger.MARK):
        return _set_off(request, spec)
    if spec.ticket_id is None:
        return True
    named = spec.debug_request == request.name
    return (named or spec.debug_request is None) and request.spec.owner in (
        (None, spec.owner) if named else (spec.owner,)
    )


def _set_off(request: DebugRequest, spec: AttachmentSpec) -> bool:
    """Whether the answer that made a request be held is what the debug request waits for."""
    held = spec.held or HeldRequest()
    return trigger.misfit(request.spec, held.method or "", held.path or "", spec.failure or Failure()) is None

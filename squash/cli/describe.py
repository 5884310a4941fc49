"""Objects in words."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

from squash.cli.triggers import set_off, waits_for
from squash.model import DebugAttachment, DebugRequest, Outcome, Phase, State, Trigger

_SEND = "your request with the header x-squash-debug (curl -H 'x-squash-debug: 1' ...)"


def place(attachment: DebugAttachment) -> str:
    """What is being debugged, and for which held request."""
    spec = attachment.spec
    where = container(attachment)
    text = f"container {where} on node {spec.node}" if spec.node else f"container {where}"
    if spec.held and spec.held.path:
        text += f", held: {spec.held.method or ''} {spec.held.path}".replace(":  ", ": ")
        if spec.held.budget:
            text += f"; its caller gives up after {spec.held.budget:g} s"
    return text


def budget(attachment: DebugAttachment, now: float) -> float | None:
    """Seconds that the caller of the held request still waits, at Unix time `now`; below 0 when it gave up.

    None when it told no deadline, or nobody waits for its answer any more.
    """
    status, held = attachment.status, attachment.spec.held
    since = (status.times or {}).get(State.NONE.value)
    over = status.state is State.ERROR or status.phase is Phase.DETACHED or status.outcome is Outcome.CALLER_GONE
    if over or since is None or held is None or held.budget is None:
        return None
    return since + held.budget - now


def patience(attachment: DebugAttachment, now: float) -> str:
    """The pause budget in words; empty when there is none."""
    left = budget(attachment, now)
    if left is None:
        return ""
    if left < 0:
        return f"the caller gave up {-left:.0f} s ago, by its own deadline"
    return f"{left:.0f} s left before the caller gives up"


def container(attachment: DebugAttachment) -> str:
    """`namespace/pod/container`, as far as the platform names them."""
    return place_name(attachment.spec.attachment)


def place_name(attachment: Mapping[str, Any]) -> str:
    """The same of a `spec.attachment` alone."""
    parts = (attachment.get(key) for key in ("namespace", "pod", "container"))
    return "/".join(str(part) for part in parts if part) or "?"


def connection(attachment: DebugAttachment) -> str:
    """What to type, or to tell an editor, to reach the debug server; empty while there is none."""
    status = attachment.status
    address = status.debug_server_address
    if not address:
        return ""
    if attachment.spec.debugger == "pdb" and status.protocol == "dap":
        return f"squashctl console {attachment.name}"
    if status.protocol == "gdb" and address.startswith("unix:"):
        # Without the sysroot gdb fetches every library through the connection.
        return f"gdb -ex 'set sysroot /' -ex 'target remote {address.removeprefix('unix:')}'"
    speaks = f" ({status.protocol})" if status.protocol else ""
    return f"{address}{speaks}"


def attachment_lines(attachment: DebugAttachment) -> Iterator[str]:
    """A debug attachment, one fact a line."""
    status, spec = attachment.status, attachment.spec
    phase = f" ({status.phase})" if status.phase and status.phase.value != status.state.value else ""
    facts = {
        "debug attachment": attachment.name,
        "state": f"{status.state}{phase}",
        "container": container(attachment),
        "image": spec.image,
        "process": status.pid,
        "debugger": status.debugger or spec.debugger,
        "set off by": set_off(spec),
        "connect": connection(attachment),
        "pause budget": patience(attachment, time.time()),
        "reason": f"{status.reason}: {status.message or status.reason.meaning}" if status.reason else None,
    }
    return (f"{key:<17} {value}" for key, value in facts.items() if value)


def request_lines(request: DebugRequest) -> Iterator[str]:
    """A debug request, one fact a line."""
    spec = request.spec
    facts = {
        "debug request": request.name,
        "waits for": waits_for(spec),
        "debugger": spec.debugger,
        "process name": spec.process_name,
        "held until": spec.hold_until,
        "expires after": f"{spec.ttl:g} s" if spec.ttl else None,
        "send": None if spec.trigger not in (None, Trigger.MARK) else _SEND,
    }
    return (f"{key:<17} {value}" for key, value in facts.items() if value)

"""`squashctl explain`: the whole story of an attachment, or of a marked request that was not held."""

import time
from typing import TYPE_CHECKING, Annotated

import typer

from squash import images
from squash.cli.front import Config, Front, Json, Server, front
from squash.cli.parameters import known_ids
from squash.errors import ApiError, SettingError, SquashError, UnreachableError
from squash.model import DebugAttachment, DebugRequest, Sighting, State
from squash.reasons import Reason
from squash.result import Result, parse

if TYPE_CHECKING:
    from squash.cli.story import Story
    from squash.client import Client

_AROUND = 50
"""Sightings that are shown of a trace, or of an image."""


def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A debug attachment or debug request by its id or the beginning of it; a trace id, traceparent or "
            "x-request-id; the value of a header x-squash-result; or `last`.",
            autocompletion=known_ids,
        ),
    ] = "last",
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell the whole story of a debug attachment, or of a marked request that was not held.

    Each step with its time and who did it, what was tried and why it failed, how the hold ended, what the reason means,
    and what to do next.
    """
    with front(server, config, as_json) as squash:
        story = _story(squash, what.strip())
        if as_json:
            squash.output.document(story)
        else:
            squash.output.lines(*_lines(story))


def _story(squash: Front, what: str) -> "Story":
    from squash.cli import story  # noqa: PLC0415 - slow to import

    if what == "last":
        return _last(squash.client)
    if result := _result(what):
        return _of_result(squash, result)
    try:
        return _of_found(squash.client, what)
    except SquashError as error:
        if error.reason is not Reason.NOT_FOUND and not isinstance(error, SettingError):
            raise
        around = _sightings(squash.client, trace=what.removeprefix("x-request-id:").strip())
        if not around:
            if isinstance(error, SettingError):
                raise
            message = (
                f"nothing is known of {what!r}: no debug attachment, debug request or marked request of the last while"
            )
            raise SquashError(Reason.NOT_FOUND, message) from error
    held = next((one.attachment for one in around if one.attachment), None)
    attachment = _attachment(squash.client, held) if held else None
    return _of_attachment(squash.client, attachment) if attachment else story.told_of_sightings(_about(around), around)


def _result(what: str) -> Result | None:
    try:
        return parse(what.removeprefix("x-squash-result:").strip())
    except ValueError:
        return None


def _of_result(squash: Front, result: Result) -> "Story":
    """More than the header says, when the coordinator still knows the attachment and answers."""
    from squash.cli import story  # noqa: PLC0415 - slow to import

    if result.id:
        try:
            if found := _attachment(squash.client, result.id):
                return _of_attachment(squash.client, found)
        except UnreachableError as error:
            squash.output.note(f"the header alone is explained: {error.message}")
    return story.told_of_result(result)


def _last(client: "Client") -> "Story":
    from squash.cli import story  # noqa: PLC0415 - slow to import
    from squash.client import list_attachments, list_requests  # noqa: PLC0415

    ends: list[tuple[float, DebugAttachment | DebugRequest | Sighting]] = []
    ends += [((each.status.times or {}).get(State.NONE.value, 0.0), each) for each in client.send(list_attachments())]
    ends += [(each.time, each) for each in _sightings(client)[:1] if not each.attachment]
    waiting = (each for each in client.send(list_requests()) if not each.status.debug_attachment_ref)
    ends += [(each.status.created or 0.0, each) for each in waiting]
    if not ends:
        message = "nothing has happened yet, as far as the coordinator remembers"
        raise SquashError(Reason.NOT_FOUND, message)
    newest = max(ends, key=lambda end: end[0])[1]
    if isinstance(newest, DebugAttachment):
        return _of_attachment(client, newest)
    if isinstance(newest, DebugRequest):
        return _of_request(client, newest)
    around = _of_trace(client, newest.traceparent or newest.request_id) or [newest]
    return story.told_of_sightings(_about(around), around)


def _of_found(client: "Client", what: str) -> "Story":
    from squash.cli.ids import find  # noqa: PLC0415 - slow to import
    from squash.client import list_attachments  # noqa: PLC0415

    try:
        found = find(client, what)
    except SquashError as error:
        if error.reason is not Reason.NOT_FOUND:
            raise
        # The debug request may be gone while what it was matched to is still remembered.
        own = [each for each in client.send(list_attachments()) if (each.spec.debug_request or "").startswith(what)]
        if len(own) != 1:
            raise
        found = own[0]
    if isinstance(found, DebugRequest):
        matched = found.status.debug_attachment_ref
        attachment = _attachment(client, matched) if matched else None
        return _of_attachment(client, attachment) if attachment else _of_request(client, found)
    return _of_attachment(client, found)


def _of_attachment(client: "Client", attachment: DebugAttachment) -> "Story":
    from squash.cli.story import told_of_attachment  # noqa: PLC0415 - slow to import
    from squash.client import list_audit  # noqa: PLC0415

    try:
        audit = client.send(list_audit(attachment=attachment.name))
    except ApiError:
        audit = []  # an older coordinator, or one that lets us see no trail
    held = attachment.spec.held
    trace = (held.traceparent or held.request_id) if held else None
    others = [one for one in _of_trace(client, trace) if one.attachment != attachment.name]
    return told_of_attachment(attachment, audit, others)


def _of_request(client: "Client", request: DebugRequest) -> "Story":
    from squash.cli.lost import missing  # noqa: PLC0415 - slow to import
    from squash.cli.story import told_of_request  # noqa: PLC0415

    since = request.status.created or 0.0
    seen = _sightings(client)
    wanted = images.repository(request.spec.image)
    recent = [one for one in seen if one.time >= since and not one.attachment]
    # Those of another tag, too: their messages say that it is another.
    own = [one for one in recent if images.repository(one.image or "") == wanted]
    return told_of_request(request, own, missing(request, seen))


def _attachment(client: "Client", name: str) -> DebugAttachment | None:
    from squash.client import get_attachment  # noqa: PLC0415 - slow to import

    try:
        return client.send(get_attachment(name))
    except ApiError as error:
        if error.reason is Reason.NOT_FOUND:
            return None
        raise


def _of_trace(client: "Client", trace: str | None) -> list[Sighting]:
    """Every sighting of the same trace, which crossed several services."""
    if not trace:
        return []
    parts = trace.split("-")
    return _sightings(client, parts[1] if len(parts) == 4 else trace)


def _sightings(client: "Client", trace: str | None = None) -> list[Sighting]:
    from squash.client import list_sightings  # noqa: PLC0415 - slow to import

    try:
        return client.send(list_sightings(trace=trace, limit=_AROUND))
    except ApiError:
        return []  # an older coordinator, or one that lets us see none


def _about(around: list[Sighting]) -> str:
    newest = around[0]
    what = " ".join(part for part in (newest.method, newest.path) if part) or "a marked request"
    where = "/".join(part for part in (newest.namespace, newest.pod, newest.container) if part)
    image = f", image {newest.image}" if newest.image else ""
    return f"marked request {what}" + (f" at {where}" if where else "") + image


def _lines(story: "Story") -> list[str]:
    from squash.cli.story import outcome_in_words  # noqa: PLC0415 - slow to import

    lines = [story.about, ""]
    began = next((step.time for step in story.steps if step.time), None)
    for step in story.steps:
        if step.time is None:
            lines.append(f"{'':27}{step.text}")
            continue
        clock = time.strftime("%H:%M:%S", time.localtime(step.time))
        after = step.time - (began or step.time)
        by = f"  [{step.who}]" if step.who else ""
        lines.append(f"  {clock}.{int(step.time % 1 * 1000):03d} {after:+10.3f} s  {step.text}{by}")
    facts = {
        "outcome": f"{story.outcome}: {outcome_in_words(story.outcome)}" if story.outcome else None,
        "reason": f"{story.reason}: {story.meaning}" if story.reason else None,
        "message": story.message,
        "remedy": story.remedy,
    }
    lines += [""] if story.steps else []
    lines += [f"{key:<9} {value}" for key, value in facts.items() if value]
    lines += [f"{'next':<9} {each}" for each in story.next]
    return lines

"""`squashctl list` and `version`: what there is."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squash import __version__
from squash.cli.describe import budget, container
from squash.cli.exits import exit_of
from squash.cli.front import Config, Front, Json, Server, front
from squash.cli.output import drawn
from squash.cli.parameters import age
from squash.errors import ApiError, UnreachableError
from squash.model import DebugAttachment, DebugRequest, State, Trigger

if TYPE_CHECKING:
    from squash.cli.follow import Patience
    from squash.client import Call
    from squash.model import Changes

REFRESH = 2.0
"""Seconds after which `--watch` looks again although no attachment changed: debug requests may have."""
_SHORT = 12
"""Characters of a generated id that a person gets to see; enough for `wait`, `release` and `delete`."""
_GENERATED = 32


class What(StrEnum):
    ATTACHMENTS = "attachments"
    REQUESTS = "requests"
    ALL = "all"


Listed = dict[str, Sequence[DebugAttachment] | Sequence[DebugRequest]]


def list_objects(
    what: Annotated[What, typer.Argument(metavar="WHAT", help="What to list.")] = What.ALL,
    state: Annotated[
        list[State] | None,
        typer.Option(help="Only debug attachments in this state; may be repeated.", show_default=False),
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Stay and show it anew after each change, until Ctrl-C.")
    ] = False,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List debug requests and debug attachments.

    A terminal shows the beginnings of long ids, which every command takes; a pipe gets them whole.
    """
    if state and what is What.REQUESTS:
        raise typer.BadParameter("debug requests have no state; leave it out", param_hint="--state")
    with front(server, config, as_json) as squash:
        shown = None
        for listed in _looks(squash, what, tuple(state or ()), watch):
            if listed != shown:
                _show(squash, listed, clear=watch)
                shown = listed


def version(server: Server = None, config: Config = None, as_json: Json = False) -> None:
    """Show the versions of squashctl and of the coordinator."""
    with front(server, config, as_json) as squash:
        from squash.client import document  # noqa: PLC0415 - slow to import

        try:
            found, lost = squash.client.send(document()).info.version, None
        except (ApiError, UnreachableError) as error:
            found, lost = None, error
        if as_json:
            squash.output.document({"client": __version__, "server": found, "server_url": squash.client.url})
        else:
            squash.output.lines(f"squashctl    {__version__}", f"coordinator  {found or '?'} at {squash.client.url}")
        if lost:
            squash.output.error(lost)
            raise typer.Exit(exit_of(lost))


def _looks(squash: Front, what: What, states: tuple[State, ...], watch: bool) -> Iterator[Listed]:
    """What there is now; with `watch` again after each change."""
    from squash.cli.follow import AWAY, Patience  # noqa: PLC0415 - slow to import

    yield _look(squash.client.send, what, states)
    patience = Patience(squash.client, math.inf, lambda: squash.output.note(AWAY))
    since = ""
    while watch:
        # Without a revision the answer comes at once: from then on nothing is missed.
        news = _news(patience, since)
        since = news.revision if news else since
        yield _look(lambda call: patience.send(lambda _: call), what, states)


def _news(patience: "Patience", since: str) -> "Changes | None":
    from squash.client import changes  # noqa: PLC0415 - slow to import

    return patience.send(lambda wait: changes(since=since, wait=wait), REFRESH)


def _look(send: "Callable[[Call[Any]], Any]", what: What, states: tuple[State, ...]) -> Listed:
    from squash.client import list_attachments, list_requests  # noqa: PLC0415 - slow to import

    listed: Listed = {}
    if what is not What.REQUESTS:
        listed["attachments"] = send(list_attachments(states=states))
    if what is not What.ATTACHMENTS:
        listed["requests"] = send(list_requests())
    return listed


def _show(squash: Front, listed: Listed, clear: bool) -> None:
    if squash.output.as_json:
        squash.output.document(listed)
    else:
        on_terminal = sys.stdout.isatty()
        if clear and on_terminal:
            sys.stdout.write("\x1b[H\x1b[2J")
        squash.output.lines("\n".join(_text(kind, objects, on_terminal) for kind, objects in listed.items()))
    sys.stdout.flush()


def _text(kind: str, objects: Sequence[DebugAttachment] | Sequence[DebugRequest], short: bool) -> str:
    if not objects:
        return f"no debug {kind}\n"
    rows = [_row(each, short) for each in objects]
    return f"debug {kind}\n{drawn(_HEADS[kind], rows)}"


_HEADS = {
    "attachments": ("ID", "STATE", "PHASE", "CONTAINER", "IMAGE", "DEBUGGER", "AGE", "BUDGET", "CONNECT OR REASON"),
    "requests": ("ID", "STATE", "IMAGE", "TRIGGER", "DEBUGGER", "AGE", "DEBUG ATTACHMENT"),
}


def _row(each: DebugAttachment | DebugRequest, short: bool) -> tuple[str, ...]:
    now = time.time()
    name = _id(each.name, short)
    if isinstance(each, DebugRequest):
        ref, created = each.status.debug_attachment_ref, each.status.created or now
        state = "matched" if ref else "waiting"
        attachment = _id(ref, short) if ref else "-"
        trigger = each.spec.trigger or Trigger.MARK
        return name, state, each.spec.image, trigger, each.spec.debugger or "any", age(now - created), attachment
    status, spec = each.status, each.spec
    since = age(now - (status.times or {}).get(State.NONE.value, now))
    ends = status.reason or status.debug_server_address or "-"
    debugger = status.debugger or spec.debugger or "any"
    left = budget(each, now)
    waits = "-" if left is None else age(max(0.0, left))
    return name, status.state, status.phase or "-", container(each), spec.image or "-", debugger, since, waits, ends


def _id(name: str, short: bool) -> str:
    return name[:_SHORT] if short and len(name) >= _GENERATED else name

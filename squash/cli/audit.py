"""`squashctl audit`: who did what."""

import time
from typing import Annotated

import typer

from squash.cli.front import Config, Json, Server, front
from squash.cli.output import drawn
from squash.cli.parameters import duration, known_ids
from squash.model import Action, AuditEntry

_HEAD = ("TIME", "ACTOR", "ACTION", "DETAIL", "IMAGE", "DEBUG ATTACHMENT")


def audit(
    attachment: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID]",
            help="Only this debug attachment; the first characters do while it is there, its whole id ever after.",
            autocompletion=known_ids,
            show_default=False,
        ),
    ] = None,
    actor: Annotated[str | None, typer.Option(help="Only what this one did.", show_default=False)] = None,
    action: Annotated[Action | None, typer.Option(help="Only this action.", show_default=False)] = None,
    since: Annotated[
        float | None,
        typer.Option(
            metavar="DURATION", parser=duration, help="Only the last while, like 30m or 24h.", show_default=False
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many entries, the newest.")] = 100,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show the audit trail: who held, attached, evaluated, changed and released what, and when; never a value."""
    with front(server, config, as_json) as squash:
        from squash.cli.ids import whole_id  # noqa: PLC0415 - slow to import
        from squash.client import list_audit  # noqa: PLC0415

        found = squash.client.send(
            list_audit(
                attachment=whole_id(squash.client, attachment) if attachment is not None else None,
                actor=actor,
                action=action,
                since=None if since is None else time.time() - since,
                limit=limit,
            )
        )
        if as_json:
            squash.output.document(found)
        elif found:
            squash.output.lines(drawn(_HEAD, [_row(entry) for entry in found]).rstrip("\n"))
        else:
            squash.output.note("nothing of that kind is in the audit trail")


def _row(entry: AuditEntry) -> tuple[str, ...]:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.time))
    return when, entry.actor, entry.action, entry.detail or "-", entry.image or "-", entry.attachment or "-"

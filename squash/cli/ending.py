"""`squashctl release` and `delete`: how what was asked for ends."""

from typing import Annotated

import typer

from squash.cli.front import Config, Json, Server, front
from squash.cli.parameters import Id, known_ids
from squash.errors import SquashError
from squash.model import DebugRequest
from squash.reasons import Reason


def release(id: Id, server: Server = None, config: Config = None, as_json: Json = False) -> None:
    """Let a held request go on without a debugger.

    Takes the debug attachment, or the debug request that it was matched to.
    """
    with front(server, config, as_json) as squash:
        from squash.cli.ids import find  # noqa: PLC0415 - slow to import
        from squash.client import release_attachment  # noqa: PLC0415

        found = find(squash.client, id)
        name = found.name
        if isinstance(found, DebugRequest):
            if not found.status.debug_attachment_ref:
                message = f"nothing is held for debug request {name} yet; `squashctl delete {name}` takes it back"
                raise SquashError(Reason.ILLEGAL_STEP, message)
            name = found.status.debug_attachment_ref
        after = squash.client.send(release_attachment(name))
        if as_json:
            squash.output.document(after)
        elif after.status.reason is Reason.RELEASED:
            squash.output.lines(f"released {name}")
        else:
            squash.output.lines(f"{name} was over already: {after.status.reason or after.status.state}")


def ready(id: Id, server: Server = None, config: Config = None, as_json: Json = False) -> None:
    """Say by hand that you are ready, so that the held request goes on to the debugger.

    Usually squash sees in the debugger's protocol when your breakpoints are set. This is for clients
    in which it cannot, or when you want none.
    """
    with front(server, config, as_json) as squash:
        from squash.cli.ids import find  # noqa: PLC0415 - slow to import
        from squash.client import ready_attachment  # noqa: PLC0415

        found = find(squash.client, id)
        name = found.name
        if isinstance(found, DebugRequest):
            if not found.status.debug_attachment_ref:
                raise SquashError(Reason.ILLEGAL_STEP, f"nothing is held for debug request {name} yet")
            name = found.status.debug_attachment_ref
        after = squash.client.send(ready_attachment(name))
        if as_json:
            squash.output.document(after)
        else:
            squash.output.lines(f"{name} is ready: its request goes on")


def delete(
    ids: Annotated[
        list[str],
        typer.Argument(
            metavar="ID",
            help="Debug requests and debug attachments; the first characters of an id do while only one begins so.",
            autocompletion=known_ids,
            show_default=False,
        ),
    ],
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Remove debug requests and debug attachments.

    A debugger is detached and its process runs on; what is held goes on. With an unknown id nothing is removed.
    """
    with front(server, config, as_json) as squash:
        from squash.cli.ids import find_all  # noqa: PLC0415 - slow to import
        from squash.client import delete_attachment, delete_request  # noqa: PLC0415

        found = find_all(squash.client, ids)
        for each in found:
            remove = delete_request if isinstance(each, DebugRequest) else delete_attachment
            squash.client.send(remove(each.name))
        if as_json:
            squash.output.document({"deleted": [each.name for each in found]})
        else:
            squash.output.lines(*(f"deleted {each.name}" for each in found))

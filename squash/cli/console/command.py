"""`squashctl console`: a debugger in the terminal, for a debug attachment that there is."""

from pathlib import Path
from typing import Annotated

import typer

from squash.cli.front import Config, Json, Server, front
from squash.cli.parameters import Id, Timeout

Breakpoints = Annotated[
    list[str] | None,
    typer.Option(
        "--break",
        "-b",
        metavar="WHERE",
        help="Set a breakpoint first, like 'app.py:31' or 'app.py:31 if total > 9'; can be repeated.",
        show_default=False,
    ),
]
Script = Annotated[
    Path | None,
    typer.Option("--script", "-x", metavar="FILE", help="Do the commands in a file first.", show_default=False),
]
Go = Annotated[
    bool, typer.Option("--go", help="The breakpoints given are all: let the held request go on, and wait for a stop.")
]


def console(
    id: Id,
    breakpoints: Breakpoints = None,
    script: Script = None,
    go: Go = False,
    takeover: Annotated[
        bool, typer.Option("--takeover", help="When another client holds the session, have it make room.")
    ] = False,
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, but change nothing.")] = False,
    timeout: Timeout = None,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Debug in this terminal, as with pdb.

    Waits until the debug server listens and connects. Then set breakpoints; a request that is held goes on at your
    first `continue`. `help` lists the commands, and what is none is evaluated. Ctrl-C gives the prompt back while the
    process runs; Ctrl-D leaves, and the process runs on.

    Without a terminal, commands are read from standard input. The first that fails ends it with status 1; a stop that
    does not come within `--timeout`, with status 4. With `--json` each command, and each stop, is one JSON document.
    """
    with front(server, config, as_json, timeout) as squash:
        from squash.cli.console.app import Options, run  # noqa: PLC0415 - slow to import
        from squash.cli.follow import Follower, Goal  # noqa: PLC0415
        from squash.cli.ids import find  # noqa: PLC0415

        found = find(squash.client, id)
        squash.stays.append(f"{found.name} stays; `squashctl delete {found.name}` removes it")
        with squash.output.progress() as progress:
            attachment = Follower(squash.client, squash.settings.timeout, progress).follow(found, Goal.LISTENING)
        options = Options(read_only=read_only, takeover=takeover, breakpoints=breakpoints or (), script=script, go=go)
        status = run(squash, attachment, options)
    raise typer.Exit(status)

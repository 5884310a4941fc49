"""What every command shares: the flags to reach the coordinator, a client, and errors that become an exit status."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squash.cli.exits import Exit, exit_of
from squash.cli.output import Output
from squash.errors import SquashError
from squash.misspelt import doubts
from squash.options import settle
from squash.settings import SquashctlSettings, config_home

if TYPE_CHECKING:
    from squash.client import Client

PROGRAM = "squashctl"
Server = Annotated[
    str | None,
    typer.Option(
        "--server",
        "--server-url",
        metavar="URL",
        help="Where the coordinator answers (env SQUASH_SERVER_URL).",
        rich_help_panel="Coordinator and output",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="TOML file with a table `[squashctl]` (env SQUASH_CONFIG).",
        rich_help_panel="Coordinator and output",
        show_default=False,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Write one JSON document: the result to stdout, an error to stderr.",
        rich_help_panel="Coordinator and output",
    ),
]


class Front:
    """What a command works with."""

    def __init__(self, settings: SquashctlSettings, client: "Client", output: Output) -> None:
        self.settings = settings
        self.client = client
        self.output = output
        self.stays: list[str] = []
        """Lines on what remains, and how to undo it, should the person leave with Ctrl-C."""


@contextmanager
def front(server: str | None, config: Path | None, as_json: bool, timeout: float | None = None) -> Iterator[Front]:
    """A `Front` for the body of a command. What the body raises ends the program with the status that tells of it."""
    output = Output(as_json)
    try:
        settings = read_settings(server, config, timeout)
        for line in doubts(os.environ):
            output.note(f"{PROGRAM}: {line}")
        # Imported here: it takes longer than everything that `--help` needs.
        from squash.cli.person import person  # noqa: PLC0415
        from squash.client import Client  # noqa: PLC0415
        from squash.credentials import Credentials  # noqa: PLC0415

        credentials = Credentials.of(settings.server_url, settings)
        with Client(settings.server_url, credentials=credentials, actor=person()) as client:
            ready = Front(settings, client, output)
            try:
                yield ready
            except KeyboardInterrupt:
                output.failure(Exit.INTERRUPTED, "; ".join(["interrupted", *ready.stays]))
                raise typer.Exit(Exit.INTERRUPTED) from None
    except SquashError as error:
        output.error(error)
        raise typer.Exit(exit_of(error)) from error


def read_settings(
    server: str | None = None, config: Path | None = None, timeout: float | None = None
) -> SquashctlSettings:
    """Flag over environment over file. Raises SettingError.

    The file is the one named, or the person's own when there is one.
    """
    named = os.environ.get("SQUASH_CONFIG")
    path: Path | None = config or (Path(named) if named else config_home() / "squash.toml")
    if path and not config and not named and not path.is_file():
        path = None
    return settle(SquashctlSettings, PROGRAM, {"server_url": server, "timeout": timeout}, path)

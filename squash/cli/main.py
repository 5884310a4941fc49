"""The program `squashctl`: its commands wired together."""

import re
import signal
import sys
from collections.abc import Sequence
from functools import cache
from importlib.metadata import entry_points
from types import FrameType
from typing import Annotated, NoReturn

import typer

from squash import __version__
from squash.cli import audit, connect, debug, debugging, ending, explain, listing, status, streams, ticket, token
from squash.cli.console import command
from squash.cli.exits import Exit
from squash.cli.output import Output

_HELP = """Debug microservices where they run.

Ask for a debugger, send a marked request, and it waits at Envoy until your debugger sits in the process:

- `squashctl debug-request demo/pricing --wait`

- `curl -H 'x-squash-debug: 1' http://…` in another terminal
"""
_ENDS = "Exit status:\n\n" + "\n\n".join(f"- **{end.value}** {end.meaning}" for end in Exit)
_SETTINGS = (
    "A flag wins over the environment, the environment over the file: its table `[squashctl]` in "
    "`$XDG_CONFIG_HOME/squash/squash.toml`, or in the file that `SQUASH_CONFIG` names. `NO_COLOR` is honoured."
)
_USAGE_ERROR = typer.BadParameter.__mro__[2]
"""What Typer raises for a command line that it cannot read; its own name for it is private."""
_ESCAPED = re.compile("[\udc80-\udcff]")


def _examples(*lines: str) -> str:
    return "Examples:\n\n" + "\n\n".join(f"- `{line}`" for line in lines)


app = typer.Typer(
    name="squashctl",
    help=_HELP,
    epilog=f"{_ENDS}\n\n{_SETTINGS}",
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_debug = typer.Typer(
    name="debug",
    help="Debug a running service with your own debugger.",
    rich_markup_mode="markdown",
    no_args_is_help=True,
)
_debug.command(
    "image",
    epilog=_examples(
        "squashctl debug image demo/pricing --url 'http://127.0.0.1:8600/quote'",
        "squashctl debug image demo/stock --with gdb",
        "squashctl debug image demo/pricing --print vscode --map ~/shop=/app",
    ),
)(debugging.image)
_debug.command(
    "container",
    epilog=_examples(
        "squashctl debug container",
        "squashctl debug container pricing-1 -n demo --with nvim",
        "squashctl debug container pricing-1 --pid 4711 --yes --json",
    ),
)(debugging.container)
app.add_typer(_debug)
app.command(
    "debug-request",
    epilog=_examples(
        "squashctl debug-request demo/pricing",
        "squashctl debug-request demo/pricing --hold-until attached",
        "squashctl debug-request demo/stock gdb --ttl 30m --wait",
    ),
)(debug.debug_request)
app.command(
    "debug-container",
    epilog=_examples(
        "squashctl debug-container pricing-1 --wait",
        "squashctl debug-container pricing-1 -n demo -c app --debugger debugpy --json",
    ),
)(debug.debug_container)
app.command(
    "list",
    epilog=_examples(
        "squashctl list",
        "squashctl list attachments --state attaching --state attached",
        "squashctl list --json | jq -r '.requests[].metadata.name'",
    ),
)(listing.list_objects)
app.command(
    "wait",
    epilog=_examples("squashctl wait 5f3c", "squashctl wait 5f3c --for listening --timeout 5m --json"),
)(debug.wait)
app.command(
    "connect",
    epilog=_examples(
        "squashctl connect 5f3c",
        "squashctl connect 5f3c --listen 127.0.0.1:5678 --once",
        "gdb -ex 'target remote | squashctl connect 5f3c --stdio'",
    ),
)(connect.connect)
app.command(
    "console",
    epilog=_examples(
        "squashctl console 5f3c",
        "squashctl console 5f3c -b 'app.py:31 if total > 9' --go",
        "printf 'where\\np total\\n' | squashctl console 5f3c -b app.py:31 --go --json",
    ),
)(command.console)
app.command("release", epilog=_examples("squashctl release 5f3c"))(ending.release)
app.command("delete", epilog=_examples("squashctl delete 5f3c 77ab", "squashctl delete 5f3c --json"))(ending.delete)
app.command(
    "audit",
    epilog=_examples(
        "squashctl audit 5f3c",
        "squashctl audit --actor ann@desk --since 24h",
        "squashctl audit --action changed --limit 1000 --json",
    ),
)(audit.audit)
app.add_typer(ticket.app)
app.command("ready", epilog=_examples("squashctl ready 5f3c"))(ending.ready)
app.command(
    "explain",
    epilog=_examples(
        "squashctl explain",
        "squashctl explain 5f3c",
        "squashctl explain 4bf92f3577b34da6a3ce929d0e0e4736",
        "squashctl explain 'no_match; reason=no_pending_request'",
    ),
)(explain.explain)
app.command("status", epilog=_examples("squashctl status", "squashctl status --json | jq .healthy"))(status.status)
app.command("version")(listing.version)
app.add_typer(token.app, name="token")
token.app.command(
    "create",
    epilog=_examples(
        "squashctl token create --for ann@example.org > ann.token",
        "squashctl token create --role agent --for agent-7 --node node-7 --ttl 365d",
        "squashctl token create --role filter --for shop-sidecars --namespace shop --json",
    ),
)(token.create)
token.app.command("list", epilog=_examples("squashctl token list", "squashctl token list --json"))(token.list_tokens)
token.app.command("revoke", epilog=_examples("squashctl token revoke 5f3c"))(token.revoke)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"squashctl {__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version of squashctl and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Holds `--version`; the help is the program's own."""


@cache
def mount_plugins() -> None:
    """Adds, once, the groups of commands that installed packages bring by the entry points `squash.commands`."""
    for point in sorted(entry_points(group="squash.commands")):
        try:
            app.add_typer(point.load(), name=point.name)
        except (ImportError, AttributeError) as error:
            sys.stderr.write(f"squashctl: the commands `{point.name}` cannot be loaded: {error}\n")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and ends with the status that tells how it went (see `Exit`)."""
    signal.signal(signal.SIGTERM, _terminated)
    streams.prepare()
    given = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        mount_plugins()
        status = _run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is still buffered must not complain either.
        streams.forget()
        status = Exit.REFUSED
    except streams.UnwritableError as error:
        streams.forget()
        Output("--json" in given).failure(Exit.REFUSED, f"cannot write to standard output: {error.strerror}")
        status = Exit.REFUSED
    except KeyboardInterrupt:
        status = Exit.INTERRUPTED
    sys.exit(status)


def _run(argv: list[str]) -> int:
    try:
        status = app(argv, prog_name="squashctl", standalone_mode=False)
    except typer.Abort:
        return Exit.INTERRUPTED
    except UnicodeEncodeError as error:
        # What is sent is UTF-8. An argument of other bytes came as lone surrogates (PEP 383).
        text = str(error.object)
        if not _ESCAPED.search(text):
            raise
        Output("--json" in argv).failure(Exit.USAGE, f"{text!a} is no text in {sys.getfilesystemencoding()}")
        return Exit.USAGE
    except Exception as error:
        if not isinstance(error, _USAGE_ERROR):
            raise
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "squashctl"
        Output("--json" in argv).failure(Exit.USAGE, f"{_message(error)} (see `{command} --help`)", _message(error))
        return Exit.USAGE
    return status if isinstance(status, int) else Exit.DONE


def _message(error: Exception) -> str:
    format_message = getattr(error, "format_message", None)
    return str(format_message()) if format_message else str(error)


def _terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    """Ends by way of exceptions, so that the terminal gets its cursor back."""
    raise SystemExit(Exit.TERMINATED.value)

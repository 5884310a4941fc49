"""Writes the pages of docs/ that are made from the code: `python -m scripts.docs`. A test fails on drift."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from squash.cli.exits import Exit
from squash.cli.main import app, mount_plugins
from squash.options import rows
from squash.reasons import Reason
from squash.settings import AgentSettings, CoordinatorSettings, SidecarSettings, SquashctlSettings

DOCS = Path(__file__).parent.parent / "docs"
_MADE = "<!-- Made by `make docs`; change the code instead. -->\n"
_PROGRAMS = (
    ("squash-coordinator", "coordinator", CoordinatorSettings),
    ("squash-agent", "agent", AgentSettings),
    ("squash-sidecar", "sidecar", SidecarSettings),
    ("squashctl", "squashctl", SquashctlSettings),
)
_SETTINGS = f"""# Settings

{_MADE}
A flag wins over the environment, the environment over the file. The file is TOML with one table a program, named with
`--config FILE` or `SQUASH_CONFIG`; squashctl also reads `$XDG_CONFIG_HOME/squash/squash.toml`
(`~/.config/squash/squash.toml`). A value that cannot be used ends the program with status 2 and a line that names the
key, the value and where it came from, and so does a key or a table that there is none of. A variable of the environment
that seems to be misspelt is a warning on stderr.

```toml
[agent]
node = "shop"
attach_timeout = 30

[squashctl]
server_url = "http://127.0.0.1:8602"
```
"""
_REASONS = f"""# Reasons

{_MADE}
Why something did not go as wished: in `status.reason` of a debug attachment, in the body of a refusal, in the header
`x-squash-result`, in squashctl's errors and in the logs. The message next to it says what exactly was wrong.
"""
_JSON = """## JSON

With `--json` a command that did well writes one JSON document to stdout. One that did not writes nothing there, and to
stderr `{"error": {"exit": …, "reason": …, "message": …, "remedy": …}}`. Objects look as in the REST API; `list --watch`
writes a document for each change; `connect` writes its document when it listens, and stays; `debug` writes one
document a line for each step, with its name in `event`, unix seconds in `time` and what belongs to it: `waiting`,
`held` or `attachment`, then the phases (`resolving`, `starting`, `listening`, `client_connected`, `ready`,
`detached`) as they come, `connect` (where to connect, and the editors' configurations by name), `client`, `let_go`
(`outcome`, and the seconds `held`), `ending`, `left` (what could not be taken back) and `over`; `version` writes its
document even when the coordinator is away, with `server` null, and the error too.
"""


def pages() -> dict[str, str]:
    """The text of each page by its name in docs/."""
    return {
        "settings.md": "\n".join(_settings()),
        "reasons.md": "\n".join(_reasons()),
        "squashctl.md": "\n".join(_squashctl()),
    }


def _settings() -> Iterator[str]:
    yield _SETTINGS
    for name, program, settings in _PROGRAMS:
        yield f"## {name}\n"
        yield f"Table `[{program}]`.\n"
        table = (
            (f"`{row.key}`", _code(row.flag), f"`{row.env}`", _code(row.stated), row.help)
            for row in rows(settings, program)
        )
        yield from _table(("key", "flag", "environment", "default", "meaning"), table)


def _reasons() -> Iterator[str]:
    yield _REASONS
    body = ((f"`{reason.value}`", reason.meaning, reason.remedy) for reason in Reason)
    yield from _table(("reason", "what it means", "what to do"), body)


def _squashctl() -> Iterator[str]:
    mount_plugins()
    group: Any = typer.main.get_command(app)
    yield f"# squashctl\n\n{_MADE}"
    yield group.help.strip() + "\n"
    yield "Shell completion, ids too: `squashctl --install-completion`.\n"
    yield "## Exit status\n"
    yield from _table(("status", "when"), ((str(end.value), end.meaning) for end in Exit))
    yield _JSON
    for name, command in group.commands.items():
        yield from _command(f"squashctl {name}", command)


def _command(path: str, command: Any) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner:
        for name, each in inner.items():
            yield from _command(f"{path} {name}", each)
        return
    context = typer.Context(command)
    shown = [each for each in command.params if each.name != "help"]
    usage = [piece for each in shown for piece in each.get_usage_pieces(context)]
    yield f"## {path}\n"
    yield f"`{' '.join([path, *usage, '[OPTIONS]'])}`\n"
    yield command.help.strip() + "\n"
    if command.epilog:
        yield command.epilog + "\n"
    records = (each.get_help_record(context) for each in shown)
    yield from _table(("", "meaning"), ((f"`{name}`", text) for name, text in records))


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in body:
        yield f"| {' | '.join(_cell(text) for text in row)} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def main() -> None:
    """Writes every page and names it."""
    for name, text in pages().items():
        (DOCS / name).write_text(text)
        print(DOCS / name)


if __name__ == "__main__":
    main()

"""What squashctl writes: results to stdout, everything else to stderr; with `--json` one document instead of words."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from squash.cli.exits import Exit, exit_of
from squash.cli.streams import as_json
from squash.errors import SettingError, SquashError
from squash.reasons import Reason

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_STYLES = {
    "none": "yellow",
    "waiting": "yellow",
    "attaching": "cyan",
    "attached": "green",
    "matched": "green",
    "error": "red",
}
_WIDE = 10_000
"""Columns of an output that is no terminal: nothing is cut off or folded there."""


class Output:
    """Where a command writes to. `as_json`: exactly one JSON document on stdout, an error as one on stderr."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json

    def document(self, value: Any) -> None:
        """The result of a command with `--json`."""
        sys.stdout.write(as_json(value) + "\n")

    def lines(self, *lines: str) -> None:
        """The result of a command in words."""
        sys.stdout.write("".join(f"{line}\n" for line in lines))

    def note(self, line: str) -> None:
        """Something beside the result; left out with `--json`."""
        if not self.as_json:
            sys.stderr.write(f"{line}\n")

    def error(self, error: SquashError) -> None:
        """One line with what is wrong and the remedy, or the JSON document of it."""
        remedy = None if isinstance(error, SettingError) else error.reason.remedy
        self.failure(exit_of(error), str(error), error.message, error.reason, remedy)

    def failure(
        self, status: Exit, line: str, message: str = "", reason: Reason | None = None, remedy: str | None = None
    ) -> None:
        """`line` is for people, the rest for `--json`; an empty `message` is the line."""
        if self.as_json:
            body = {"exit": status.value, "reason": reason, "message": message or line, "remedy": remedy}
            sys.stderr.write(as_json({"error": body}) + "\n")
        else:
            sys.stderr.write("squashctl: " + " ".join(line.split()) + "\n")

    @contextmanager
    def progress(self) -> Iterator["Progress"]:
        """Shows what is waited for, with the time so far, while stderr is a terminal."""
        if not sys.stderr.isatty():
            yield Progress(self)
            return
        # Rich is imported where it is used: it takes as long as everything else together.
        from rich.progress import Progress as Bar  # noqa: PLC0415
        from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        columns = (SpinnerColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        with Bar(*columns, console=_console(sys.stderr), transient=True) as bar:
            yield Progress(self, bar, bar.add_task(""))


class Progress:
    """The steps of a wait: `now` is what is waited for, `reached` stays to be read."""

    def __init__(self, output: Output, bar: "Bar | None" = None, task: "TaskID | None" = None) -> None:
        self._output = output
        self._bar = bar
        self._task = task
        self._since = time.monotonic()

    def now(self, text: str) -> None:
        """Changes the line with the spinner; without a terminal nothing is shown."""
        if self._bar and self._task is not None:
            from rich.markup import escape  # noqa: PLC0415

            self._bar.update(self._task, description=escape(text))

    def reached(self, text: str) -> None:
        """A line that stays, with the seconds since the wait began; left out with `--json`."""
        if self._output.as_json:
            return
        line = f"{time.monotonic() - self._since:7.2f} s  {text}"
        if self._bar:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            self._output.note(line)


def drawn(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns, as stdout can show them; coloured on a terminal."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    # As wide as it gets: a terminal wraps a line that can still be copied, a folded cell cannot.
    console = _console(sys.stdout, _WIDE)
    with console.capture() as capture:
        console.print(table)
    return "".join(line.rstrip() + "\n" for line in capture.get().splitlines())


def _console(file: Any, width: int | None = None) -> "Console":
    from rich.console import Console  # noqa: PLC0415

    return Console(file=file, width=width if file.isatty() else _WIDE, highlight=False)

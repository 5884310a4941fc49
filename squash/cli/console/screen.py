"""What the console writes: lines for people, the same lines for a script, or a JSON document for each command."""

import os
import sys
from collections.abc import Iterable
from typing import Any

from squash.cli.console.render import plain
from squash.cli.streams import as_json

_COLOURS = {"headline": "\033[1;36m", "error": "\033[1;31m", "current": "\033[1m", "hint": "\033[2m"}
_STYLES = {"> ": "headline", "->": "current"}
_OFF = "\033[0m"


class Screen:
    """Lines go to stdout. `as_json`: one document a command there, and one for what happens by itself."""

    def __init__(self, as_json: bool = False) -> None:
        self._as_json = as_json
        self._kept: list[str] | None = None
        self._data: dict[str, Any] = {}
        self._colours = _wants_colours() and not as_json

    def say(self, *lines: str, style: str = "") -> None:
        """Lines that the debug server had a part in must have come through `render`."""
        if self._kept is not None:
            self._kept += lines
        elif self._as_json:
            self._write({"notice": list(lines)})
        else:
            for line in lines:
                self._out(f"{_COLOURS[style]}{line}{_OFF}" if style and self._colours else line)

    def told(self, text: str) -> None:
        """What the debug server says by itself, whatever is in it."""
        self.say(*plain(text).split("\n"))

    def hint(self, line: str) -> None:
        """Something for a person to know; no result of anything."""
        if not self._as_json:
            self.say(line, style="hint")

    def data(self, **values: Any) -> None:
        """What a script may want of the command that runs; only in its document."""
        self._data |= values

    def echo(self, prompt: str, line: str) -> None:
        """What a script says, so that its output can be read by itself."""
        if not self._as_json:
            self._out(f"{prompt}{plain(line)}")

    def event(self, lines: Iterable[str], **values: Any) -> None:
        """Something that happened by itself, like a stop."""
        if self._as_json:
            self._write(values)
        else:
            for line in lines:
                self.say(line, style=_STYLES.get(line[:2], "headline" if line.startswith("stopped: ") else ""))

    def begin(self) -> None:
        """What is said from now on belongs to one command."""
        if self._as_json:
            self._kept, self._data = [], {}

    def end(self, command: str, error: str = "") -> None:
        """The command is over."""
        if not self._as_json:
            if error:
                self.say(f"*** {error}", style="error")
            return
        document: dict[str, Any] = {"command": command, "ok": not error, "lines": self._kept or []} | self._data
        self._kept = None
        self._write(document | ({"error": error} if error else {}))

    def _write(self, document: dict[str, Any]) -> None:
        self._out(as_json(document))

    def _out(self, line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _wants_colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

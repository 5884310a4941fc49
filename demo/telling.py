"""How a story is told: chapter by chapter, each done for real and checked; one that fails is named and is the last."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from websockets.exceptions import WebSocketException

from demo.dap import DapError
from demo.world import StartError
from squash.errors import SquashError


class CheckError(Exception):
    """Something was not as it should be; the message says what was expected and what came."""


FAILURES = (
    CheckError, DapError, StartError, SquashError, OSError, ValueError, LookupError, TypeError, HTTPException,
    WebSocketException, subprocess.SubprocessError,
)  # fmt: skip
"""What an answer that is not as it should be may lead to: each of them is a failed step, and told as one."""
Chapter = tuple[str, Callable[[], None]]


@dataclass(frozen=True)
class Step:
    title: str
    seconds: float
    error: str = ""


class Teller:
    """Writes the story to standard output; `title` stands over the table at its end."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.steps: list[Step] = []
        self.out = Console(highlight=False, emoji=False, soft_wrap=True)

    def tell(self, chapters: Sequence[Chapter]) -> bool:
        """True when every chapter was as it should be; the rest is not told after one that was not."""
        for number, (title, chapter) in enumerate(chapters, 1):
            self.out.print(f"\n[bold]{number}. {title}[/bold]")
            begun = time.monotonic()
            error = ""
            try:
                chapter()
            except FAILURES as failure:
                error = f"{type(failure).__name__}: {failure}"
            self.steps.append(Step(title, time.monotonic() - begun, error))
            if error:
                break
        self._summary(len(chapters))
        return all(not step.error for step in self.steps) and len(self.steps) == len(chapters)

    def say(self, text: str, style: str = "") -> None:
        self.out.print(f"   {text}", style=style, markup=False)

    def _summary(self, planned: int) -> None:
        table = Table(title=self.title, title_justify="left")
        table.add_column("step")
        table.add_column("", justify="right")
        table.add_column("seconds", justify="right")
        for number, step in enumerate(self.steps, 1):
            table.add_row(f"{number}. {step.title}", "failed" if step.error else "ok", f"{step.seconds:.2f}")
        self.out.print()
        self.out.print(table)
        for number, step in enumerate(self.steps, 1):
            if step.error:
                self.out.print(f"step {number} of {planned} failed: {step.error}", markup=False)


def check(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise CheckError(f"{what}: expected {expected!r}, found {found!r}")


def line_of(path: Path, text: str) -> int:
    """The number of the one line that has this text."""
    found = [number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line]
    if len(found) != 1:
        raise CheckError(f"{path.name} has {len(found)} lines with {text!r}")
    return found[0]


def until(look: Callable[[], Any], good: Callable[[Any], bool], limit: float = 10.0) -> Any:
    """What `look` sees once it is good, or at last: for facts that tell nobody when they change."""
    deadline = time.monotonic() + limit
    while not good(found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found

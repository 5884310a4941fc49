"""The breakpoints of a session: what was asked for, and what the debug server made of it. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from squash.cli.console.messages import Answered
from squash.cli.console.places import Place, Wanted

FUNCTIONS = ""
"""Stands for the path of breakpoints on functions."""


@dataclass(frozen=True)
class Breakpoint:
    """`place` has a whole path. `verified` is None while the debug server was not asked."""

    number: int
    wanted: Wanted
    temporary: bool = False
    enabled: bool = True
    verified: bool | None = None
    message: str = ""
    """Of the debug server, mostly why it is not verified."""
    server_id: int | None = None
    line: int = 0
    """Where the debug server put it, if it says so."""
    count: int = 0
    """How often it stopped the process."""

    @property
    def place(self) -> Place:
        return self.wanted.place


class Breakpoints:
    def __init__(self) -> None:
        self._all: dict[int, Breakpoint] = {}
        self._last = 0

    def __iter__(self) -> Iterator[Breakpoint]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def get(self, number: int) -> Breakpoint | None:
        return self._all.get(number)

    def add(self, wanted: Wanted, *, temporary: bool = False) -> Breakpoint:
        self._last += 1
        made = Breakpoint(self._last, wanted, temporary=temporary)
        self._all[made.number] = made
        return made

    def remove(self, number: int) -> None:
        self._all.pop(number, None)

    def change(self, number: int, **fields: Any) -> Breakpoint:
        self._all[number] = replace(self._all[number], **fields)
        return self._all[number]

    def paths(self) -> set[str]:
        """Of files with breakpoints; FUNCTIONS for those on functions."""
        return {each.place.path for each in self}

    def of(self, path: str) -> list[Breakpoint]:
        """The enabled ones of a file, in the order in which the debug server is told of them."""
        return [each for each in self if each.enabled and each.place.path == path]

    def arguments(self, path: str) -> list[dict[str, Any]]:
        """What to tell the debug server of a file's, or of those on functions."""
        return [_argument(each) for each in self.of(path)]

    def answered(self, asked: list[Breakpoint], answers: list[Answered]) -> None:
        """What the debug server made of those that it was told of, in order; it may have left some out."""
        for index, each in enumerate(asked):
            if each.number in self._all:
                self._learn(each.number, answers[index] if index < len(answers) else Answered())

    def told(self, news: Answered) -> Breakpoint | None:
        """The breakpoint of which the debug server tells something new by itself, if it is one of these."""
        found = next((each for each in self if news.id is not None and each.server_id == news.id), None)
        return self._learn(found.number, news) if found else None

    def hit(self, ids: list[int], path: str, line: int) -> list[Breakpoint]:
        """Those that stopped the process at this line: by their ids, else by their place; each is counted."""
        found = [each for each in self if each.server_id in ids] if ids else []
        if not found:
            found = [each for each in self.of(path) if path and line in (each.line, each.place.line)]
        return [self.change(each.number, count=each.count + 1) for each in found if not each.wanted.log]

    def at(self, path: str) -> dict[int, Breakpoint]:
        """By line of a file."""
        return {each.line or each.place.line: each for each in self if path and each.place.path == path}

    def _learn(self, number: int, news: Answered) -> Breakpoint:
        known = self._all[number]
        return self.change(
            number,
            verified=news.verified,
            message=news.message or "",
            server_id=news.id if news.id is not None else known.server_id,
            line=news.line or known.line,
        )


def _argument(breakpoint: Breakpoint) -> dict[str, Any]:
    wanted = breakpoint.wanted
    where = {"name": wanted.place.function} if wanted.place.function else {"line": wanted.place.line}
    more = {"condition": wanted.condition, "hitCondition": wanted.hits, "logMessage": wanted.log}
    return where | {key: value for key, value in more.items() if value}

"""Where a breakpoint is to stand: what a person types, and which file of the process is meant. Pure."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

_WHERE = r'(?P<where>"[^"]+"(?::\d+)?|[^\s,]+)'
_BREAK = re.compile(
    rf"{_WHERE}(?:\s+hits\s+(?P<hits>\S(?:.*?\S)?))?(?:(?:\s+if\s+|\s*,\s*)(?P<condition>\S.*?))?\s*", re.DOTALL
)
_LOG = re.compile(rf"{_WHERE}\s+(?P<message>\S.*)", re.DOTALL)
_HITS = re.compile(r"(?:(?:==|>=|<=|>|<|%)\s*)?\d+")
_FUNCTION = re.compile(r"[^\W\d]\w*(?:(?:\.|::)[^\W\d]\w*)*")
_FILES = (".c", ".cc", ".cpp", ".cxx", ".go", ".h", ".hpp", ".java", ".js", ".kt", ".py", ".pyx", ".rs", ".ts")
"""Endings that no function has: a file without its line."""
_SHOWN = 5


class PlaceError(Exception):
    """What was typed names no place, or several; the message says so."""


@dataclass(frozen=True)
class Place:
    """A line of a file, or a function. `path` is empty for the current file."""

    path: str = ""
    line: int = 0
    function: str = ""

    def __str__(self) -> str:
        return self.function or (f"{self.path}:{self.line}" if self.path else str(self.line))


@dataclass(frozen=True)
class Wanted:
    """A breakpoint as somebody asks for it."""

    place: Place
    condition: str = ""
    hits: str = ""
    """Like `3` (at the third), `>= 3` or `% 3`."""
    log: str = ""
    """A message to be written instead of stopping; expressions stand in braces."""


def parse_break(text: str) -> Wanted:
    """`WHERE [hits N] [if CONDITION]`, or pdb's `WHERE, CONDITION`. Raises PlaceError."""
    found = _BREAK.fullmatch(text.strip())
    if not found:
        raise PlaceError(f"{text!r} is no place: expected FILE:LINE, LINE or FUNCTION, then `hits N`, `if CONDITION`")
    hits = found["hits"] or ""
    if hits and not _HITS.fullmatch(hits):
        raise PlaceError(f"hits {hits!r} cannot be used: expected a number, or like `>= 3` or `% 3`")
    return Wanted(parse_place(found["where"]), condition=found["condition"] or "", hits=hits)


def parse_log(text: str) -> Wanted:
    """`WHERE MESSAGE`. Raises PlaceError."""
    found = _LOG.fullmatch(text.strip())
    if not found:
        raise PlaceError("expected a place and a message, like: trace app.py:12 total is {total}")
    return Wanted(parse_place(found["where"]), log=found["message"])


def parse_place(text: str) -> Place:
    """`FILE:LINE`, `"FILE":LINE`, `LINE` or `FUNCTION`. Raises PlaceError."""
    path, colon, number = text.rpartition(":")
    path = path.removeprefix('"').removesuffix('"')
    if colon and path and number.isascii() and number.isdigit():
        return _line(number, path)
    if text.isascii() and text.isdigit():
        return _line(text, "")
    if text.endswith(_FILES):
        raise PlaceError(f"which line of {text}? Expected {text}:LINE")
    if _FUNCTION.fullmatch(text):
        return Place(function=text)
    raise PlaceError(f"{text!r} is no place: expected FILE:LINE, LINE or FUNCTION")


def _line(number: str, path: str) -> Place:
    if len(number) > 9 or not int(number):
        raise PlaceError(f"there is no line {number[:12]}")
    return Place(path=path, line=int(number))


def resolve(typed: str, known: Iterable[str], here: Callable[[str], str | None]) -> str:
    """The path that the process knows, of a file name as typed.

    `known` are paths that the process has loaded; `here` tells the absolute path of a file on this machine, if there
    is one. An absolute path is taken as it is. Raises PlaceError when nothing fits, or several do.
    """
    if typed.startswith("/") or (typed.startswith("<") and typed.endswith(">")):
        return typed
    wanted = PurePosixPath(typed.removeprefix("./")).parts
    local = here(typed)
    fitting = sorted({path for path in known if PurePosixPath(path).parts[-len(wanted) :] == wanted})
    if len(fitting) == 1 or (local and local in fitting):
        return local if local in fitting else fitting[0]
    if fitting:
        more = f" and {len(fitting) - _SHOWN} more" if len(fitting) > _SHOWN else ""
        raise PlaceError(f"{typed!r} may be any of {', '.join(fitting[:_SHOWN])}{more}: type more of it")
    if local:
        return local
    raise PlaceError(f"no file {typed!r} is known: not among the sources of the process, nor here; give its whole path")

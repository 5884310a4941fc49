"""Writes YAML 1.2: plain data with comments, nothing else. Strings are quoted as JSON, which is YAML, too."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Commented:
    """A value with a comment above the key or item that has it."""

    comment: str
    value: Any


def plain(data: Any) -> Any:
    """The same without comments."""
    match data:
        case Commented():
            return plain(data.value)
        case dict():
            return {key: plain(value) for key, value in data.items()}
        case list():
            return [plain(item) for item in data]
        case _:
            return data


def dump(data: dict[str, Any]) -> str:
    """`data` may hold dicts with text keys, lists, text, numbers, booleans and `Commented`."""
    return "\n".join(_mapping(data)) + "\n"


def _mapping(data: dict[str, Any]) -> Iterator[str]:
    for key, value in data.items():
        yield from _entry(key if key.isidentifier() else json.dumps(key), value)


def _entry(key: str, value: Any) -> Iterator[str]:
    match value:
        case Commented(comment, inner):
            yield from (f"# {line}" for line in comment.splitlines())
            yield from _entry(key, inner)
        case dict() if value:
            yield f"{key}:"
            yield from _indented(_mapping(value))
        case list() if value:
            yield f"{key}:"
            for item in value:
                yield from _item(item)
        case str() if "\n" in value:
            # The digit fixes the indentation, so that text may begin with spaces.
            yield f"{key}: |2-" if not value.endswith("\n") else f"{key}: |2"
            yield from _indented(value.removesuffix("\n").split("\n"))
        case _:
            yield f"{key}: {json.dumps(value)}"


def _item(item: Any) -> Iterator[str]:
    while isinstance(item, Commented):
        yield from (f"# {line}" for line in item.comment.splitlines())
        item = item.value
    if not isinstance(item, dict) or not item:
        yield f"- {json.dumps(plain(item))}"
        return
    lead = "- "
    for line in _mapping(item):
        # A comment cannot stand between the dash and the key without taking the line for itself.
        yield f"- # {line[2:]}" if lead == "- " and line.startswith("# ") else lead + line
        lead = "  "


def _indented(lines: Any) -> Iterator[str]:
    for line in lines:
        yield f"  {line}" if line else ""

"""What a type allows, in words: for whoever gave a setting a value that cannot be used."""

from collections.abc import Iterable, Sequence
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

_NUMBERS = {int: "a whole number", float: "a number"}


def expected(wanted: Any) -> str:
    """Like `expected one of fan, grill` or `expected a number from 0 to 10`; empty where there are no words for it."""
    words = _words(wanted)
    return f"expected {words}" if words else ""


def _words(wanted: Any) -> str:
    if get_origin(wanted) is Annotated:
        inner, *meta = get_args(wanted)
        return _annotated(inner, [each for each in meta if isinstance(each, msgspec.Meta)])
    if get_origin(wanted) in (Union, UnionType):
        return next(filter(None, map(_words, get_args(wanted))), "")
    if get_origin(wanted) is Literal:
        return _one_of(get_args(wanted))
    if isinstance(wanted, type) and issubclass(wanted, Enum):
        return _one_of([each.value for each in wanted])
    if wanted is bool:
        return "true or false"
    return _NUMBERS.get(wanted, "")


def _annotated(inner: Any, meta: Sequence[msgspec.Meta]) -> str:
    """By the description, or by the limits of a number."""
    described = next((each.description for each in meta if each.description), "")
    return described or ("".join([_words(inner), *map(_limits, meta)]) if inner in _NUMBERS else "")


def _one_of(values: Iterable[object]) -> str:
    return f"one of {', '.join(map(str, values))}"


def _limits(meta: msgspec.Meta) -> str:
    lowest = f" from {meta.ge}" if meta.ge is not None else f" above {meta.gt}" if meta.gt is not None else ""
    if meta.le is None:
        return lowest
    return f"{lowest} to {meta.le}" if meta.ge is not None else f"{lowest}, at most {meta.le}"

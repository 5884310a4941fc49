"""The value of `x-squash-result`: `<outcome>; id=…; held=1.234s; reason=…`, written and read in one place.

    result  = outcome [ "; id=" id ] [ "; held=" seconds "s" ] [ "; reason=" reason ]
    outcome = one of squash.model.Outcome
    id      = name of the debug attachment, if there was one (squash.model.Name)
    seconds = digits "." 3 digits, from when the request was held until it went on
    reason  = one of squash.reasons.Reason, if there was one

Just that is written. A reader has to take more, for it may be older than the writer: see `parse`.
"""

import re
from dataclasses import dataclass

from squash.model import NAME_PATTERN, Outcome
from squash.reasons import Reason

HEADER = "x-squash-result"
MARK = "x-squash-debug"
"""The request header that marks a request."""

_ID = re.compile(NAME_PATTERN)
_HELD = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)s")


@dataclass(frozen=True)
class Result:
    """What became of one marked request. `held` is in seconds."""

    outcome: Outcome
    id: str | None = None
    held: float | None = None
    reason: Reason | None = None

    def __str__(self) -> str:
        parts = [self.outcome.value]
        if self.id:
            parts.append(f"id={self.id}")
        if self.held is not None:
            parts.append(f"held={self.held:.3f}s")
        if self.reason:
            parts.append(f"reason={self.reason}")
        return "; ".join(parts)


def parse(text: str) -> Result:
    """Reads a header value. Raises ValueError when it is none.

    Fields may stand in any order, with or without spaces; the first of a name counts; one that it does not know, or
    whose value it cannot read, is passed over. Only the outcome has to be there and be known.
    """
    outcome, *rest = (part.strip(" \t") for part in text.split(";"))
    fields: dict[str, str] = {}
    for part in rest:
        name, _, value = part.partition("=")
        fields.setdefault(name, value)
    held = _HELD.fullmatch(fields.get("held", ""))
    return Result(
        _outcome(outcome),
        fields["id"] if _ID.match(fields.get("id", "")) else None,
        float(held[1]) if held else None,
        _reason(fields.get("reason", "")),
    )


def _outcome(text: str) -> Outcome:
    try:
        return Outcome(text)
    except ValueError as error:
        known = ", ".join(Outcome)
        raise ValueError(f"{text!r} is no outcome of a hold; expected one of {known}") from error


def _reason(text: str) -> Reason | None:
    try:
        return Reason(text)
    except ValueError:
        return None

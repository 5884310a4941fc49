"""The value of `x-squash-result`: `<outcome>; id=…; held=1.234s; reason=…`, written and read in one place."""

import re
from dataclasses import dataclass

from squash.model import Outcome
from squash.reasons import Reason

HEADER = "x-squash-result"
MARK = "x-squash-debug"
"""The request header that marks a request."""

_FIELD = re.compile(r"(id|held|reason)=([^;\s]+)")


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
    """Reads a header value. Raises ValueError when it is none; fields it does not know are passed over."""
    outcome, *rest = (part.strip() for part in text.split(";"))
    fields = {match[1]: match[2] for part in rest if (match := _FIELD.fullmatch(part))}
    held = fields.get("held")
    reason = fields.get("reason")
    return Result(
        Outcome(outcome),
        fields.get("id"),
        float(held.removesuffix("s")) if held else None,
        Reason(reason) if reason else None,
    )

"""What one check of the preflight found."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from squash.errors import SquashError
from squash.reasons import Reason


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """The debugger works, but not as one may expect."""
    REFUSED = "refused"
    """The debugger would fail, or could harm the process: it is not attached."""


@dataclass(frozen=True)
class Finding:
    check: str
    """What was looked at, like `memory`."""
    level: Level
    message: str
    """What is the case, with the values that matter."""
    reason: Reason | None = None
    """Always there when refused."""
    advice: str = ""
    """What to change, where that is more exact than the reason's own remedy."""

    @property
    def remedy(self) -> str:
        return self.advice or (self.reason.remedy if self.reason else "")

    def __str__(self) -> str:
        return f"{self.check}: {self.message}" + (f"; {self.advice}" if self.advice else "")


def ok(check: str, message: str) -> Finding:
    return Finding(check, Level.OK, message)


def warning(check: str, message: str, advice: str) -> Finding:
    return Finding(check, Level.WARNING, message, advice=advice)


def refused(check: str, reason: Reason, message: str, advice: str = "") -> Finding:
    return Finding(check, Level.REFUSED, message, reason, advice)


def refusal(findings: Iterable[Finding]) -> SquashError | None:
    """The first refusal as an error, which names the others as well; None when nothing is refused."""
    bad = [finding for finding in findings if finding.level is Level.REFUSED]
    if not bad:
        return None
    message = "; ".join(f"{each.message}{f' ({each.advice})' if each.advice else ''}" for each in bad)
    return SquashError(bad[0].reason or Reason.ATTACH_FAILED, message)


def warnings(findings: Iterable[Finding]) -> str:
    """The warnings in one text; empty when there are none."""
    return "; ".join(str(finding) for finding in findings if finding.level is Level.WARNING)

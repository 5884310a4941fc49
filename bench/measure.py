"""What a subject of the benchmark is given and gives back."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

Tell = Callable[[str], None]
"""Shows what is under way."""


class BenchError(Exception):
    """Something could not be measured; the message says why."""


@dataclass(frozen=True)
class Effort:
    """How much is done for a figure. `seconds` is the length of one round of load."""

    rounds: int = 7
    seconds: float = 4.0
    held: int = 200
    """Requests held at once."""
    crowd: int = 1_000
    """Requests held at once, and let go in the same moment."""
    few: int = 100
    many: int = 100_000
    """Debug requests pending while a match is timed."""


QUICK = Effort(rounds=2, seconds=1.0, held=20, crowd=100, many=2_000)
"""Shows that everything runs; too little for figures."""


@dataclass(frozen=True)
class Measurement:
    """One figure. `rounds` are what it is made of, as they came; `notes` what else was seen, for the JSON alone."""

    key: str
    value: float
    unit: str
    rounds: Sequence[float]
    notes: Mapping[str, Any] = field(default_factory=dict)


Subject = Callable[[Effort, Tell], Iterator[Measurement]]


def middle(key: str, unit: str, rounds: Sequence[float], **notes: Any) -> Measurement:
    """The median of the rounds. Raises BenchError when there are none."""
    if not rounds:
        raise BenchError(f"{key}: nothing was measured")
    return Measurement(key, median(rounds), unit, rounds, notes)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of all do not exceed (the nearest rank). Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(int(rank), 1) - 1]

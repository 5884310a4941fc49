"""The table and the JSON of what was measured. Pure."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.table import Table
from rich.text import Text

from bench.bars import ROWS, Bar, Row, Verdict, judge
from bench.measure import Measurement, percentile

_STYLES = {Verdict.MET: "green", Verdict.MISSED: "bold red", Verdict.UNKNOWN: "yellow", Verdict.NONE: ""}


def judged(found: Sequence[Measurement]) -> list[tuple[Row, Measurement, Verdict]]:
    """What was measured, in the order of the rows. Raises KeyError for a key that has no row."""
    values = values_of(found)
    by_key = {one.key: one for one in found}
    unknown = by_key.keys() - {row.key for row in ROWS}
    if unknown:
        raise KeyError(f"no row for {', '.join(sorted(unknown))}")
    return [(row, by_key[row.key], judge(row, values)) for row in ROWS if row.key in by_key]


def all_met(found: Sequence[Measurement]) -> bool:
    return all(verdict in {Verdict.MET, Verdict.NONE} for _, _, verdict in judged(found))


def table(found: Sequence[Measurement], caption: str = "") -> Table:
    values = values_of(found)
    drawn = Table(
        title="make bench", title_justify="left", caption=caption, caption_justify="left", min_width=len(caption)
    )
    drawn.add_column("key", no_wrap=True)
    for name in ("value", "from … to", "bar"):
        drawn.add_column(name, justify="right", no_wrap=True)
    drawn.add_column("")
    for row, one, verdict in judged(found):
        drawn.add_row(
            row.key,
            figure(one.value, one.unit),
            " … ".join(figure(end, one.unit, bare=True) for end in (min(one.rounds), max(one.rounds))),
            bar_text(row.bar, values, one.unit),
            Text(verdict.value, style=_STYLES[verdict]),
        )
    return drawn


def document(found: Sequence[Measurement], failures: Mapping[str, str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, to be written as JSON. `failures` says by subject why it could not be measured."""
    values = values_of(found)
    rows = {
        row.key: {
            "what": row.what,
            "value": one.value,
            "unit": one.unit,
            "bar": _bar_document(row.bar, values),
            "verdict": verdict.value or None,
            "spread": spread(one.rounds),
            "rounds": list(one.rounds),
            "notes": dict(one.notes),
        }
        for row, one, verdict in judged(found)
    }
    return {**facts, "rows": rows, "failures": dict(failures), "all_met": not failures and all_met(found)}


def spread(rounds: Sequence[float]) -> dict[str, float]:
    return {
        "min": min(rounds),
        "p25": percentile(rounds, 25),
        "median": median(rounds),
        "p75": percentile(rounds, 75),
        "max": max(rounds),
    }


def bar_text(bar: Bar | None, values: Mapping[str, float], unit: str) -> str:
    """`≤ 40 MB`; nothing where there is no bar."""
    if bar is None:
        return ""
    limit = bar.limit(values)
    return f"{bar.side} {figure(limit, unit) if limit is not None else '?'}"


def figure(value: float, unit: str = "", *, bare: bool = False) -> str:
    """Three digits that mean something; ratios, which have no unit, to a thousandth. `bare` leaves the unit out."""
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    digits = max(0, 3 - whole) if unit else 3
    text = f"{value:.{digits}f}"
    if bare or not unit:
        return text
    return f"{text}{unit}" if unit.startswith("/") else f"{text} {unit}"


def values_of(found: Sequence[Measurement]) -> dict[str, float]:
    return {one.key: one.value for one in found}


def _bar_document(bar: Bar | None, values: Mapping[str, float]) -> dict[str, Any] | None:
    return {"says": str(bar), "side": bar.side.value, "limit": bar.limit(values)} if bar else None

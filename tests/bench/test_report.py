"""The pure parts of the benchmark: bars, figures, the table, the JSON."""

import json
import re

import pytest
from rich.console import Console

from bench import report
from bench.bars import ROWS, Bar, Row, Side, Verdict, judge
from bench.measure import BenchError, Measurement, middle, percentile
from demo.world import ROOT


def measured(key: str, value: float, unit: str = "ms") -> Measurement:
    return Measurement(key, value, unit, [value - 1, value, value + 1])


@pytest.mark.parametrize(
    ("side", "value", "holds"),
    [
        (Side.AT_LEAST, 9.9, False),
        (Side.AT_LEAST, 10, True),
        (Side.AT_MOST, 10, True),
        (Side.AT_MOST, 10.1, False),
        (Side.BELOW, 9.9, True),
        (Side.BELOW, 10, False),
    ],
)
def test_a_bar_says_on_which_side_a_good_value_lies(side: Side, value: float, holds: bool) -> None:
    verdict = judge(Row("a", "", Bar(side, 10)), {"a": value})
    assert verdict is (Verdict.MET if holds else Verdict.MISSED)


def test_a_bar_may_depend_on_another_value() -> None:
    row = Row("a", "", Bar(Side.AT_MOST, plus=10, times=0.5, of="b"))
    assert judge(row, {"a": 60, "b": 100}) is Verdict.MET
    assert judge(row, {"a": 61, "b": 100}) is Verdict.MISSED
    assert judge(row, {"a": 60}) is Verdict.UNKNOWN


def test_without_a_bar_there_is_no_verdict_and_without_a_value_none_either() -> None:
    assert judge(Row("a", ""), {"a": 1}) is Verdict.NONE
    assert judge(Row("a", "", Bar(Side.AT_MOST, 1)), {}) is Verdict.UNKNOWN


def test_rows_are_well_made() -> None:
    keys = [row.key for row in ROWS]
    assert len(set(keys)) == len(keys)
    assert all(row.what for row in ROWS)
    assert {row.bar.of for row in ROWS if row.bar and row.bar.of} <= set(keys)


def test_measurements_are_judged_in_the_order_of_the_rows() -> None:
    found = [measured("attach.gdb_ms", 152), measured("hold.lag_p50_ms", 6), measured("attach.gdb_floor_ms", 3)]
    assert [(row.key, verdict) for row, _, verdict in report.judged(found)] == [
        ("hold.lag_p50_ms", Verdict.MISSED),
        ("attach.gdb_ms", Verdict.MET),
        ("attach.gdb_floor_ms", Verdict.NONE),
    ]
    assert not report.all_met(found)
    assert report.all_met([found[0], found[2]])


def test_a_measurement_without_a_row_is_refused_by_name() -> None:
    with pytest.raises(KeyError, match=r"no\.such"):
        report.judged([measured("no.such", 1)])


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.98765, "", "0.988"),
        (12.5, "", "12.500"),
        (0.3214, "ms", "0.321 ms"),
        (1.236, "ms", "1.24 ms"),
        (36.12, "MB", "36.1 MB"),
        (786.4, "/s", "786/s"),
        (70_654.2, "/s", "70654/s"),
        (-1.236, "ms", "-1.24 ms"),
    ],
)
def test_figures_have_three_digits_that_mean_something(value: float, unit: str, text: str) -> None:
    assert report.figure(value, unit) == text


def test_a_bar_is_written_with_its_limit_or_a_question_mark() -> None:
    bar = Bar(Side.AT_MOST, 150, of="b")
    assert report.bar_text(bar, {"b": 3}, "ms") == "≤ 153 ms"
    assert report.bar_text(bar, {}, "ms") == "≤ ?"
    assert report.bar_text(None, {}, "ms") == ""


@pytest.mark.parametrize(
    ("bar", "text"),
    [
        (Bar(Side.AT_LEAST, 0.98), "≥ 0.98"),
        (Bar(Side.BELOW, 1.5), "< 1.5"),
        (Bar(Side.AT_MOST, times=0.5, of="b"), "≤ 0.5 × b"),
        (Bar(Side.AT_MOST, 150, of="b"), "≤ b + 150"),
    ],
)
def test_a_bar_tells_what_it_asks(bar: Bar, text: str) -> None:
    assert str(bar) == text


def test_the_documentation_has_every_row_with_its_bar_and_no_other() -> None:
    written = re.findall(r"^\| `(\w+\.\w+)` \| ([^|]*) \|", (ROOT / "docs/benchmarks.md").read_text(), re.MULTILINE)
    assert written == [(row.key, str(row.bar) if row.bar else "") for row in ROWS]


def test_the_table_shows_key_value_spread_bar_and_verdict() -> None:
    console = Console(width=120, color_system=None)
    with console.capture() as shown:
        console.print(report.table([measured("hold.lag_p99_ms", 31), measured("attach.gdb_floor_ms", 3)], "a machine"))
    lines = [" ".join(line.replace("│", " ").split()) for line in shown.get().splitlines()]
    assert "hold.lag_p99_ms 31.0 ms 30.0 … 32.0 ≤ 30.0 ms missed" in lines
    assert "attach.gdb_floor_ms 3.00 ms 2.00 … 4.00" in lines
    assert "a machine" in lines


def test_the_document_is_json_with_everything_in_it() -> None:
    one = Measurement("attach.gdb_ms", 20.0, "ms", [10.0, 20.0, 40.0], {"parts": {"created": 4.0}})
    found = [one, measured("attach.gdb_floor_ms", 3)]
    made = json.loads(json.dumps(report.document(found, {}, {"machine": {"cores": 2}})))
    assert made["machine"] == {"cores": 2}
    assert made["all_met"] is True
    row = made["rows"]["attach.gdb_ms"]
    assert (row["value"], row["unit"], row["rounds"], row["verdict"]) == (20.0, "ms", [10.0, 20.0, 40.0], "met")
    assert row["bar"] == {"says": "≤ attach.gdb_floor_ms + 150", "side": "≤", "limit": 153.0}
    assert row["spread"] == {"min": 10.0, "p25": 10.0, "median": 20.0, "p75": 40.0, "max": 40.0}
    assert row["notes"] == {"parts": {"created": 4.0}}
    assert made["rows"]["attach.gdb_floor_ms"]["bar"] is None
    assert made["rows"]["attach.gdb_floor_ms"]["verdict"] is None


def test_a_subject_that_failed_is_in_the_document_and_nothing_is_well_then() -> None:
    made = report.document([measured("hold.lag_p50_ms", 1)], {"envoy": "wrk: Socket errors"}, {})
    assert made["failures"] == {"envoy": "wrk: Socket errors"}
    assert made["all_met"] is False


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 201)]
    assert [percentile(values, percent) for percent in (0, 50, 99, 100)] == [1, 100, 198, 200]
    assert percentile([7.0], 99) == 7
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_the_middle_of_nothing_is_an_error_that_names_the_key() -> None:
    assert middle("a", "ms", [3, 1, 2], note=1) == Measurement("a", 2, "ms", [3, 1, 2], {"note": 1})
    with pytest.raises(BenchError, match="a: nothing was measured"):
        middle("a", "ms", [])

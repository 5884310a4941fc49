"""The mark in header and baggage."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.mark import BAGGAGE, LONGEST_BAGGAGE, PATTERN, Mark, carried, read, redacted
from squash.model import Carrier
from squash.result import MARK

LIKELY = st.text("squash=,; \tnot%1a")


@pytest.mark.parametrize(
    ("baggage", "value"),
    [
        ("squash=1", "1"),
        ("squash=", ""),
        (" squash \t= 1 ", "1"),
        ("user=a,squash=1", "1"),
        ("user=a;p=q , squash=yes;p;q=r,b=c", "yes"),
        ("squash=a%20b%2Cc", "a b,c"),
        ("squash=eyJ.a-b_c.d", "eyJ.a-b_c.d"),
        ("squash=1,squash=2", "1"),
        ("squash=%0d%0ax-evil:%201", "%0d%0ax-evil:%201"),
        ("squash=%ff", "%ff"),
        ("squash=%20a", "%20a"),
        ("squash=a=b", "a=b"),
        (",,squash=1", "1"),
    ],
)
def test_baggage_that_marks(baggage: str, value: str) -> None:
    assert re.fullmatch(PATTERN, baggage)
    assert read(None, baggage) == Mark(Carrier.BAGGAGE, value)


@pytest.mark.parametrize(
    "baggage",
    [
        "",
        "notsquash=1",
        "user=squash=1",
        "user=a;squash=1",
        "user=a%2Csquash=1",
        "squashed=1",
        "squash",
        "squash;p=1",
        "Squash=1",
        "x-squash=1",
        "a=b,c squash=1",
    ],
)
def test_baggage_that_does_not(baggage: str) -> None:
    assert not re.fullmatch(PATTERN, baggage)
    assert read(None, baggage) is None
    assert redacted(baggage) == baggage


@given(st.text() | LIKELY)
def test_pattern_and_reader_agree(baggage: str) -> None:
    line = baggage.replace("\n", "")
    assert (re.fullmatch(PATTERN, line) is not None) == (read(None, line) is not None)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126)), LIKELY)
def test_what_the_header_says_travels_in_baggage(value: str, others: str) -> None:
    value = value.strip()
    mark = read(value, others)
    assert mark is not None
    assert mark.value == value
    if mark.carrier is Carrier.BOTH:
        assert carried(mark, others) == {}
        return
    baggage = carried(mark, others)[BAGGAGE]
    assert read(None, baggage) == Mark(Carrier.BAGGAGE, value)
    assert baggage.startswith(others.strip(" \t,"))
    assert re.fullmatch(r"[!-~ \t]*", baggage)
    assert read(value, baggage) == Mark(Carrier.BOTH, value)


@given(LIKELY)
def test_what_baggage_says_travels_in_the_header(baggage: str) -> None:
    mark = read(None, baggage)
    if mark is not None:
        assert carried(mark, baggage) == {MARK: mark.value}
        assert unquote(mark.value) == mark.value or mark.value in baggage


def test_header_and_baggage_stay_as_they_are_when_both_mark() -> None:
    mark = read("mine", "squash=other")
    assert mark == Mark(Carrier.BOTH, "mine")
    assert carried(mark, "squash=other") == {}


def test_baggage_grows_no_longer_than_everyone_passes_on() -> None:
    mark = Mark(Carrier.HEADER, "1")
    room = LONGEST_BAGGAGE - len(",squash=1")
    assert carried(mark, "a=" + "b" * (room - 2))[BAGGAGE].endswith(",squash=1")
    assert carried(mark, "a=" + "b" * (room - 1)) == {}
    assert carried(Mark(Carrier.HEADER, "x" * 5000), None) == {BAGGAGE: "squash=1"}


@pytest.mark.parametrize("baggage", ["a=\ufffd", "a=\u00e4", "a=\x01"])
def test_baggage_that_is_none_is_not_rewritten(baggage: str) -> None:
    assert carried(Mark(Carrier.HEADER, "1"), baggage) == {}


def test_the_value_is_not_shown() -> None:
    assert redacted("a=1,squash=secret;p=1,b=2, squash=another ,c=3") == "a=1,squash=*;p=1,b=2, squash=* ,c=3"
    assert "secret" not in repr(read("secret", None))


@given(LIKELY)
def test_redacting_changes_nothing_else(baggage: str) -> None:
    shown = redacted(baggage)
    assert redacted(shown) == shown
    assert (read(None, shown) is None) == (read(None, baggage) is None)


def test_long_runs_of_blanks_take_no_time() -> None:
    value = "x" + " " * 300_000 + "y"
    assert read(None, f"squash={value}") == Mark(Carrier.BAGGAGE, value)
    assert redacted(f"squash={value} ;p") == "squash=* ;p"

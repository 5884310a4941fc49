"""`x-squash-result`, written and read."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.model import Outcome
from squash.reasons import Reason
from squash.result import Result, parse

RESULTS = st.builds(
    Result,
    outcome=st.sampled_from(Outcome),
    id=st.none() | st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,30}[a-z0-9])?", fullmatch=True),
    held=st.none() | st.integers(0, 10**7).map(lambda thousandths: thousandths / 1000),
    reason=st.none() | st.sampled_from(Reason),
)


@given(RESULTS)
def test_round_trip(result: Result) -> None:
    text = str(result)
    assert parse(text) == result
    assert text.isascii()
    assert text.isprintable()


def test_how_it_looks() -> None:
    assert str(Result(Outcome.NO_MATCH)) == "no_match"
    result = Result(Outcome.ERROR, "5f3c", 1.23456, Reason.PTRACE_SCOPE)
    assert str(result) == "error; id=5f3c; held=1.235s; reason=ptrace_scope"


def test_what_it_does_not_know_is_passed_over() -> None:
    assert parse("attached ;new=1;  id=a ; more") == Result(Outcome.ATTACHED, "a")


@pytest.mark.parametrize(
    "text", ["", "nonsense", "; id=a", "Attached", "attached; reason=nonsense", "attached; held=x"]
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse(text), Result)

"""`x-squash-result`, written and read."""

import contextlib
import re

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


@given(RESULTS)
def test_the_format_is_pinned(result: Result) -> None:
    form = r"[a-z_]+(; id=[-a-z0-9.]+)?(; held=\d+\.\d{3}s)?(; reason=[a-z_]+)?"
    assert re.fullmatch(form, str(result))


def test_how_it_looks() -> None:
    assert str(Result(Outcome.NO_MATCH)) == "no_match"
    result = Result(Outcome.ERROR, "5f3c", 1.23456, Reason.PTRACE_SCOPE)
    assert str(result) == "error; id=5f3c; held=1.235s; reason=ptrace_scope"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("attached ;new=1;  id=a ; more", Result(Outcome.ATTACHED, "a")),
        ("attached;reason=released;held=2s;id=a", Result(Outcome.ATTACHED, "a", 2.0, Reason.RELEASED)),
        ("attached; id=a; id=b", Result(Outcome.ATTACHED, "a")),
        ("attached; reason=of_tomorrow; held=1.5s", Result(Outcome.ATTACHED, None, 1.5)),
        ("attached; held=x; id=Not/one; reason", Result(Outcome.ATTACHED)),
        ("attached; held=-1s", Result(Outcome.ATTACHED)),
        ("attached; held=nans; id=", Result(Outcome.ATTACHED)),
        ("\tattached;", Result(Outcome.ATTACHED)),
    ],
)
def test_what_it_cannot_read_is_passed_over(text: str, result: Result) -> None:
    assert parse(text) == result


@pytest.mark.parametrize("text", ["", "nonsense", "; id=a", "Attached", "id=a; attached", "attached, error"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no outcome of a hold; expected one of attached, "):
        parse(text)


@given(st.text() | st.text("attached; idhlrson=1.s"))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        result = parse(text)
        assert parse(str(result)) == Result(
            result.outcome, result.id, None if result.held is None else round(result.held, 3), result.reason
        )

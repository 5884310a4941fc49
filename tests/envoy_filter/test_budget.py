import pytest
from hypothesis import given
from hypothesis import strategies as st

from envoy_filter.budget import budget


@pytest.mark.parametrize(
    ("expected", "grpc", "seconds"),
    [
        ("15000", None, 15.0),
        (None, "100m", 0.1),
        (None, "2M", 120.0),
        (None, "1H", 3600.0),
        (None, "5000u", 0.005),
        (None, "99999999n", 0.099999999),
        ("15000", "3S", 3.0),
        ("2000", "3S", 2.0),
    ],
)
def test_the_least_that_the_caller_tells(expected: str | None, grpc: str | None, seconds: float) -> None:
    assert budget(expected, grpc) == pytest.approx(seconds)


@pytest.mark.parametrize("expected", [None, "", "0", "-1", "1.5", "٣", "1" * 400, "9" * 15, "soon"])
@pytest.mark.parametrize("grpc", [None, "", "0S", "123456789S", "1", "S", "1s", "1 S", "99999999H"])
def test_what_cannot_be_used_is_none(expected: str | None, grpc: str | None) -> None:
    assert budget(expected, grpc) is None


@given(st.text(), st.text())
def test_any_text_is_a_budget_or_none(expected: str, grpc: str) -> None:
    found = budget(expected, grpc)
    assert found is None or 0 < found <= 31_536_000

"""Deadlines against a plain dictionary."""

from hypothesis import given
from hypothesis import strategies as st

from coordinator.deadlines import Deadlines

STEPS = st.lists(st.tuples(st.sampled_from("abcdef"), st.none() | st.integers(0, 20)), max_size=60)


@given(STEPS, st.integers(-1, 21))
def test_deadlines_equal_a_dictionary(steps: list[tuple[str, int | None]], now: int) -> None:
    deadlines, plain = Deadlines(), dict[str, int]()
    for name, at in steps:
        deadlines.set(("request", name), at)
        if at is None:
            plain.pop(name, None)
        else:
            plain[name] = at
        assert deadlines.next() == min(plain.values(), default=None)
    expected = sorted(name for name, at in plain.items() if at <= now)
    for _ in range(2):  # looking changes nothing
        assert sorted(name for _, name in deadlines.due(now)) == expected


def test_overtaken_entries_do_not_pile_up() -> None:
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.set(("request", str(number)), 1e9)
        deadlines.set(("request", str(number)), None)
    assert len(deadlines._heap) < 100

"""Auto-debug's decisions."""

from dataclasses import replace
from typing import Any

import pytest

from envoy_filter.lookout import HOT, Kind, Lookout, Seen, Skip
from squash import trigger
from squash.model import Failure, Trigger, Wish

FAILED = Seen("GET", "/cart?x=1", Failure(status=500, duration=0.2), size=10, largest=100)
SLOW = Seen("GET", "/cart?x=1", Failure(status=200, duration=3.0))


def wish(kind: Trigger = Trigger.FAILURE, name: str = "w", **terms: Any) -> Wish:
    return Wish(name=name, trigger=kind, **terms)


def lookout(*wishes: Wish) -> Lookout:
    made = Lookout()
    made.take(wishes)
    return made


def test_nothing_pending() -> None:
    idle = lookout()
    assert idle.armed(0) is Kind.IDLE
    assert idle.failed(FAILED) is Skip.NOTHING_PENDING
    assert idle.slow(SLOW, 0) is Skip.NOTHING_PENDING
    assert idle.due(SLOW, 0) is Skip.NOTHING_PENDING
    assert idle.next_change(0) is None
    assert idle.slow_from(0) is None


def test_failure_is_held_one_at_a_time() -> None:
    out = lookout(wish())
    assert out.armed(0) is Kind.FAILURE
    assert out.failed(FAILED) is None
    out.busy = True
    assert out.failed(FAILED) is Skip.BUSY
    assert out.armed(0) is Kind.IDLE
    out.busy = False
    out.take(())
    assert out.failed(FAILED) is Skip.NOTHING_PENDING


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"attempt": 2}, Skip.REPLAYED),
        ({"stream": True}, Skip.STREAM),
        ({"marked": True}, Skip.MARKED),
        ({"size": 101}, Skip.TOO_LARGE),
        ({"size": 100}, None),
        ({"method": "POST"}, Skip.METHOD),
        ({"failure": Failure(status=404)}, Skip.STATUS),
    ],
)
def test_failures_that_are_left_alone(change: dict[str, Any], why: Skip | None) -> None:
    assert lookout(wish()).failed(replace(FAILED, **change)) is why


def test_any_wish_that_fits_will_do() -> None:
    out = lookout(wish(name="a", path="/other"), wish(name="b", statuses=[500]))
    assert out.failed(FAILED) is None
    assert lookout(wish(path="/other")).failed(FAILED) is Skip.PATH
    assert lookout(wish(Trigger.LATENCY)).failed(FAILED) is Skip.NOTHING_PENDING


def test_slow_one_then_the_next_like_it() -> None:
    out = lookout(wish(Trigger.LATENCY, threshold=2.0))
    assert (out.armed(0), out.slow_from(0)) == (Kind.IDLE, 2.0)
    assert out.due(SLOW, 0) is Skip.NOTHING_PENDING
    assert out.slow(replace(SLOW, failure=Failure(duration=1.9)), 0) is Skip.DURATION
    assert out.slow(SLOW, 0) is None
    assert (out.armed(1), out.slow_from(1)) == (Kind.NEXT, None)
    assert out.due(replace(SLOW, path="/cart?x=2"), 1) == SLOW.failure
    assert out.due(replace(SLOW, path="/other"), 1) is Skip.PATH
    assert out.due(replace(SLOW, method="HEAD"), 1) is Skip.METHOD
    assert out.due(replace(SLOW, stream=True), 1) is Skip.STREAM
    assert out.next_change(1) == HOT
    assert (out.armed(HOT), out.slow_from(HOT)) == (Kind.IDLE, 2.0)
    assert out.due(SLOW, HOT) is Skip.NOTHING_PENDING
    assert out.next_change(HOT) is None


def test_both_triggers_are_looked_out_for_together() -> None:
    out = lookout(wish(), wish(Trigger.LATENCY, name="slow"))
    assert (out.armed(0), out.slow_from(0)) == (Kind.FAILURE, trigger.SLOW)
    assert out.slow(SLOW, 0) is None
    assert out.armed(1) is Kind.NEXT
    assert out.failed(FAILED) is None
    assert (out.armed(HOT), out.slow_from(HOT)) == (Kind.FAILURE, trigger.SLOW)
    out.busy = True
    assert (out.armed(HOT), out.slow_from(HOT)) == (Kind.IDLE, None)


def test_pattern_says_which_paths_are_alike() -> None:
    out = lookout(wish(Trigger.LATENCY, path="/cart/*"))
    assert out.slow(replace(SLOW, path="/cart/1"), 0) is None
    assert out.due(replace(SLOW, path="/cart/2"), 0) == SLOW.failure


def test_withdrawn_wish_is_forgotten_with_its_slow_one() -> None:
    out = lookout(wish(Trigger.LATENCY))
    assert out.slow(SLOW, 0) is None
    out.take(())
    out.take((wish(Trigger.LATENCY),))
    assert out.armed(0) is Kind.IDLE


def test_the_lowest_threshold_of_those_that_still_wait_counts() -> None:
    out = lookout(wish(Trigger.LATENCY, name="a", threshold=2.0), wish(Trigger.LATENCY, name="b", threshold=3.0))
    assert out.slow_from(0) == 2.0
    assert out.slow(replace(SLOW, failure=Failure(duration=2.5)), 0) is None
    assert out.slow_from(0) == 3.0


@pytest.mark.parametrize(
    ("change", "why"),
    [({"stream": True}, Skip.STREAM), ({"marked": True}, Skip.MARKED), ({"attempt": 2}, Skip.REPLAYED)],
)
def test_what_took_long_for_another_reason_is_not_slow(change: dict[str, Any], why: Skip) -> None:
    assert lookout(wish(Trigger.LATENCY)).slow(replace(SLOW, **change), 0) is why

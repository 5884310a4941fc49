from envoy_filter.headers import MarkedRequest
from envoy_filter.onward import ONWARD, SHIELD, onward
from squash.model import Outcome
from squash.reasons import Reason
from squash.result import Result

REQUEST = MarkedRequest(carried={"baggage": "squash=1"})


def test_a_request_that_was_held_is_shielded() -> None:
    for outcome in (Outcome.ATTACHED, Outcome.ERROR, Outcome.TIMEOUT, Outcome.RELEASED):
        assert onward(REQUEST, Result(outcome, "a", 1.0)) == {"baggage": "squash=1", **SHIELD}


def test_one_that_nobody_waited_for_keeps_its_timeouts_and_retries() -> None:
    assert onward(REQUEST, Result(Outcome.NO_MATCH, None, 0.0, Reason.NO_PENDING_REQUEST)) == {"baggage": "squash=1"}


def test_envoy_is_told_all_names_beforehand() -> None:
    assert {"x-squash-debug", "baggage", *SHIELD} == set(ONWARD)

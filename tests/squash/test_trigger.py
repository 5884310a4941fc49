"""What sets off a trigger."""

import fnmatch
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from squash.model import Failure, RequestSpec, Trigger
from squash.trigger import misfit, path_fits, problem


def spec(trigger: Trigger | None = Trigger.FAILURE, **terms: Any) -> RequestSpec:
    return RequestSpec(image="i", debugger="", trigger=trigger, **terms)


@pytest.mark.parametrize(
    ("terms", "method", "path", "status", "why"),
    [
        ({}, "GET", "/", 500, None),
        ({}, "HEAD", "/", 599, None),
        ({}, "OPTIONS", "/", 503, None),
        ({}, "POST", "/", 500, "method"),
        ({}, "get", "/", 500, "method"),
        ({}, "GET", "/", 499, "status"),
        ({}, "GET", "/", 600, "status"),
        ({}, "GET", "/", None, "status"),
        ({"statuses": [503]}, "GET", "/", 503, None),
        ({"statuses": [503]}, "GET", "/", 500, "status"),
        ({"methods": ["POST"]}, "POST", "/", 500, None),
        ({"methods": ["POST"]}, "GET", "/", 500, "method"),
        ({"path": "/cart/*"}, "GET", "/cart/7?x=/", 500, None),
        ({"path": "/cart/*"}, "GET", "/cart", 500, "path"),
    ],
)
def test_failures(terms: dict[str, Any], method: str, path: str, status: int | None, why: str | None) -> None:
    assert misfit(spec(**terms), method, path, Failure(status=status)) == why


@pytest.mark.parametrize(
    ("threshold", "seconds", "why"), [(None, 1.0, None), (None, 0.99, "duration"), (2.0, 2.0, None)]
)
def test_slow_ones(threshold: float | None, seconds: float, why: str | None) -> None:
    slow = Failure(status=200, duration=seconds)
    assert misfit(spec(Trigger.LATENCY, threshold=threshold), "GET", "/", slow) == why


def test_slow_one_of_unknown_duration() -> None:
    assert misfit(spec(Trigger.LATENCY), "GET", "/", Failure()) == "duration"


_paths = some.text(alphabet="/ab*", max_size=12).map(lambda text: "/" + text)


@given(_paths, some.text(alphabet="/ab", max_size=12).map(lambda text: "/" + text))
def test_patterns_are_those_of_a_shell(pattern: str, path: str) -> None:
    assert path_fits(pattern, path) == fnmatch.fnmatchcase(path, pattern)


def test_query_does_not_count() -> None:
    assert path_fits("/a", "/a?b=c")
    assert not path_fits("/a", "/ab?")
    assert path_fits(None, "/whatever")


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (spec(None, statuses=[500]), "spec.statuses"),
        (spec(Trigger.MARK, methods=["GET"]), "spec.methods"),
        (spec(None, path="/"), "`5xx` or `latency`"),
        (spec(Trigger.FAILURE, threshold=1.0), "`latency`"),
        (spec(Trigger.LATENCY, statuses=[500]), "`5xx`"),
    ],
)
def test_terms_that_do_not_go_together(wanted: RequestSpec, names: str) -> None:
    assert names in (problem(wanted) or "")


@pytest.mark.parametrize(
    "wanted",
    [
        spec(None),
        spec(Trigger.MARK),
        spec(Trigger.FAILURE, statuses=[500], methods=["POST"], path="/"),
        spec(Trigger.LATENCY, threshold=0.1, methods=["POST"], path="*"),
    ],
)
def test_terms_that_do(wanted: RequestSpec) -> None:
    assert problem(wanted) is None

"""Which container is meant."""

import pytest

from coordinator.platforms.choice import choose, shortened
from squash.errors import ApiError
from squash.reasons import Reason

PROXIES = ("istio-proxy", "envoy", "init")


@pytest.mark.parametrize(
    ("named", "containers", "chosen"),
    [
        ("app", ["app", "other"], "app"),
        ("envoy", ["app", "envoy"], "envoy"),
        (None, ["app"], "app"),
        (None, ["envoy"], "envoy"),
        (None, ["app", "envoy"], "app"),
        (None, ["init", "envoy", "app", "istio-proxy"], "app"),
    ],
)
def test_one_is_meant(named: str | None, containers: list[str], chosen: str) -> None:
    assert choose(named, containers, PROXIES, "pod") == chosen


@pytest.mark.parametrize(
    ("named", "containers", "reason", "listed"),
    [
        ("gone", ["app", "envoy"], Reason.CONTAINER_NOT_FOUND, "app, envoy"),
        (None, ["b", "a", "envoy"], Reason.CONTAINER_AMBIGUOUS, "a, b"),
        (None, ["init", "envoy"], Reason.CONTAINER_AMBIGUOUS, "envoy, init"),
    ],
)
def test_none_or_several_are_listed(named: str | None, containers: list[str], reason: Reason, listed: str) -> None:
    with pytest.raises(ApiError) as caught:
        choose(named, containers, PROXIES, "pod default/x")
    assert (caught.value.code, caught.value.reason) == (404, reason)
    assert "pod default/x" in caught.value.message
    assert caught.value.message.endswith(listed)


def test_long_lists_are_shortened() -> None:
    assert shortened(str(number) for number in range(100, 115)).endswith("109 and 5 more")
    assert shortened([]) == "none"

"""Reports of how holds ended, to a coordinator that has no time for them."""

import asyncio

import pytest

from envoy_filter import reports
from envoy_filter.hold import Cancel, Report
from envoy_filter.http1 import Http1Client
from envoy_filter.reports import Reports
from squash.model import Outcome
from squash.reasons import Reason
from tests.envoy_filter.coordinator_double import CoordinatorDouble
from tests.envoy_filter.http_server import Request


async def test_of_too_many_the_oldest_are_given_up(monkeypatch: pytest.MonkeyPatch, double: CoordinatorDouble) -> None:
    monkeypatch.setattr(reports, "MOST", 3)
    go = asyncio.Event()

    async def hang_up(request: Request) -> None:
        await go.wait()
        del double.instead["patch"]

    double.instead["patch"] = hang_up
    client = Http1Client(double.url)
    told = Reports(client, timeout=30.0, poll_period=0.01, pause=0.0)
    told.add(Report("oldest", Outcome.ATTACHED))
    await double.until(lambda: "patch" in double.calls)
    for name in ("b", "c", "d"):
        told.add(Report(name, Outcome.ATTACHED))
    go.set()
    await told.flush(30)
    client.close()
    assert [name for name, _ in double.patches] == ["b", "c", "d"]


async def test_a_cancellation_does_not_wait(double: CoordinatorDouble) -> None:
    client = Http1Client(double.url)
    told = Reports(client, timeout=30.0, poll_period=0.01, pause=3600.0)
    told.add(Report("a", Outcome.ATTACHED))
    told.add(Cancel("b", Outcome.CALLER_GONE, Reason.CALLER_GONE))
    await double.until(lambda: len(double.patches) == 2)
    await told.flush(30)
    client.close()

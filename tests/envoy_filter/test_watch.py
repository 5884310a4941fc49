"""The watch over all holds, against a coordinator that answers too fast."""

import asyncio

import pytest

from envoy_filter import watch
from envoy_filter.backoff import Backoff
from envoy_filter.http1 import Http1Client
from envoy_filter.watch import Watch
from squash.reasons import Reason
from tests.envoy_filter.coordinator_double import CoordinatorDouble, refusal
from tests.envoy_filter.http_server import Reply, Request


async def test_polls_that_end_at_once_are_slowed_down(
    monkeypatch: pytest.MonkeyPatch, double: CoordinatorDouble
) -> None:
    pauses: list[float] = []
    slow = asyncio.Event()

    class Counting(Backoff):
        def pause(self) -> float:
            pauses.append(super().pause())
            if len(pauses) == 4:
                slow.set()
            return pauses[-1]

    async def changes(request: Request) -> Reply:
        if request.query.get("wait"):
            return refusal(408, Reason.WAIT_TIMEOUT)
        return await double.changes(request)

    monkeypatch.setattr(watch, "Backoff", Counting)
    double.instead["changes"] = changes
    client = Http1Client(double.url)
    watching = Watch(client, "me", 0.1, lambda _: None, lambda _: None)
    watching.add("a")
    async with asyncio.timeout(30):
        await slow.wait()
    watching.stop()
    client.close()
    assert pauses == [0.0, 0.05, 0.1, 0.1]

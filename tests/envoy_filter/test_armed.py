"""What the sidecar tells Envoy to look out for, with a coordinator that answers as each test has it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from envoy_filter.armed import LONGEST_PAUSE, LONGEST_REFUSED, Armed
from envoy_filter.backoff import Backoff
from envoy_filter.http1 import Http1Client
from envoy_filter.lookout import Kind, Lookout
from squash.model import Trigger, Wish, Wishes
from squash.reasons import Reason
from squash.tasks import spawn
from tests.envoy_filter.coordinator_double import refusal
from tests.envoy_filter.http_server import HttpServer, Reply, Request

WISHES = Wishes(revision="r", image="i", wishes=[Wish(name="w", trigger=Trigger.FAILURE)])


@contextlib.asynccontextmanager
async def arming(server: HttpServer) -> AsyncIterator[Armed]:
    client = Http1Client(server.url)
    armed = Armed(client, {"pod": "p"}, Lookout(), lambda _: None)
    try:
        yield armed
    finally:
        armed.stop()
        client.close()


async def armed_by_a_wish(armed: Armed) -> str:
    """The version in which it looks out for failures."""
    while armed.kind is not Kind.FAILURE:
        assert await armed.changed(armed.version, 30)
    return armed.version


async def test_who_asks_after_the_end_is_answered_at_once() -> None:
    async def never(_: Request) -> Reply:
        await asyncio.Event().wait()
        return Reply()

    async with HttpServer(never) as server, arming(server) as armed:
        before = armed.version
        waiting = spawn(armed.changed(before, 60), "wait")
        await asyncio.sleep(0)
        armed.stop()
        assert await waiting
        assert armed.version != before
        assert await armed.changed(armed.version, 60)


async def test_poll_that_ends_without_news_changes_nothing() -> None:
    """The coordinator may let polls end sooner than they want to."""
    asked: list[str | None] = []
    again = asyncio.Event()

    async def brief(request: Request) -> Reply:
        asked.append(request.query.get("since"))
        if len(asked) == 1:
            return Reply(200, msgspec.json.encode(WISHES))
        if len(asked) == 4:
            again.set()
            await asyncio.Event().wait()
        return refusal(408, Reason.WAIT_TIMEOUT)

    async with HttpServer(brief) as server, arming(server) as armed:
        version = await armed_by_a_wish(armed)
        async with asyncio.timeout(30):
            await again.wait()
        assert asked == [None, "r", "r", "r"]
        assert armed.version == version


async def test_lost_coordinator_disarms_and_is_asked_again() -> None:
    tries = 0

    async def failing(_: Request) -> Reply:
        nonlocal tries
        tries += 1
        return refusal(503, Reason.STOPPING) if tries == 2 else Reply(200, msgspec.json.encode(WISHES))

    async with HttpServer(failing) as server, arming(server) as armed:
        version = await armed_by_a_wish(armed)
        assert await armed.changed(version, 30)
        await armed_by_a_wish(armed)


def test_coordinator_that_is_back_is_found_within_a_second() -> None:
    backoff = Backoff(LONGEST_PAUSE, first=0.5)
    assert max(backoff.pause() for _ in range(20)) <= 1.0


@pytest.mark.parametrize(("code", "longest"), [(404, LONGEST_REFUSED), (403, LONGEST_REFUSED), (503, LONGEST_PAUSE)])
async def test_who_is_refused_asks_less_and_less_often(
    code: int, longest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    enough = asyncio.Event()

    soon = asyncio.sleep

    async def brief(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 20:
            enough.set()
        await soon(0)

    async def refusing(_: Request) -> Reply:
        return refusal(code, Reason.NOT_FOUND)

    async with HttpServer(refusing) as server, arming(server) as armed:
        monkeypatch.setattr(asyncio, "sleep", brief)
        waiting = spawn(armed.changed(armed.version, 60), "wait")
        async with asyncio.timeout(30):
            await enough.wait()
        monkeypatch.undo()
        waiting.cancel()
    assert max(pauses) == longest

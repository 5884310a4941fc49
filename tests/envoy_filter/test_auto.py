"""Auto-debug on a real Envoy, with the real coordinator and sidecar: what fails is replayed once, into a debugger."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from envoy_filter.auto import BUFFER
from envoy_filter.front_end import FrontEnd
from squash.calls import delete_request, get_attachment, get_request, list_attachments, release_attachment
from squash.model import Outcome, Trigger
from squash.reasons import Reason
from squash.result import HEADER, MARK, parse
from squash.tasks import spawn
from tests.envoy_filter.auto_world import World, armed_for, slow_from, until, worlds


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with worlds(tmp_path) as running:
        yield running


async def test_failure_is_replayed_into_the_debugger(tmp_path: Path, front_end: FrontEnd) -> None:
    async with worlds(tmp_path, front_end) as world:
        wish = await world.wish()
        asked = spawn(world.send("/fails?x=1", headers={"traceparent": "00-ab-cd-01"}), "get")
        attachment = await world.matched(wish)
        assert world.service.tries == {"/fails?x=1": 1}
        spec = attachment.spec
        assert spec.trigger is Trigger.FAILURE
        assert spec.failure is not None
        assert spec.held is not None
        assert spec.failure.status == 500
        assert spec.failure.duration is not None
        assert 0 <= spec.failure.duration < 30
        assert spec.failure.headers == {"content-type": "text/sad", "retry-after": "7"}
        assert (spec.held.method, spec.held.path, spec.held.traceparent) == ("GET", "/fails?x=1", "00-ab-cd-01")
        await world.attach(attachment.name)
        response = await asked
        assert (response.status_code, response.text) == (200, "second")
        said = parse(response.headers[HEADER])
        assert (said.outcome, said.id) == (Outcome.ATTACHED, attachment.name)
        assert world.service.tries == {"/fails?x=1": 2}
        first, second = world.service.requests
        assert first.header(MARK) is None
        assert second.header(MARK) == "auto"
        strip = {MARK, "x-request-id"}
        assert [h for h in first.headers if h[0] not in strip] == [h for h in second.headers if h[0] not in strip]
        assert first.header("x-request-id") == second.header("x-request-id")
        await world.until_runtime(0)
        assert (await world.send("/fails?x=2")).status_code == 500
        assert world.service.tries["/fails?x=2"] == 1


async def test_unarmed_failure_passes_straight_through(world: World) -> None:
    response = await world.send("/fails")
    assert (response.status_code, response.text) == (500, "first")
    assert HEADER not in response.headers
    assert world.service.tries == {"/fails": 1}
    assert (await world.stats()).get("cluster.squash_upstream_armed.upstream_rq_total", 0) == 0


async def test_post_is_replayed_when_it_is_opted_in(world: World) -> None:
    wish = await world.wish(methods=["POST"])
    body = bytes(range(256)) * 100
    asked = spawn(world.send("/fails", "POST", content=body), "post")
    attachment = await world.matched(wish)
    assert world.service.tries == {"/fails": 1}
    await world.attach(attachment.name)
    assert (await asked).text == "second"
    assert world.service.tries == {"/fails": 2}
    assert [request.body for request in world.service.requests] == [body, body]


async def test_replay_that_fails_too_is_not_replayed_again(world: World) -> None:
    wish = await world.wish()
    await world.wish(armed=False)
    asked = spawn(world.send("/fails?status=503"), "get")
    attachment = await world.matched(wish)
    world.service.hopeless = True
    await world.attach(attachment.name)
    response = await asked
    assert (response.status_code, response.text) == (503, "first")
    assert parse(response.headers[HEADER]).outcome is Outcome.ATTACHED
    assert world.service.tries == {"/fails?status=503": 2}
    attachments = await world.client.send(list_attachments())
    assert [one.name for one in attachments] == [attachment.name]


@pytest.mark.parametrize(
    ("terms", "method", "target"),
    [
        ({}, "POST", "/fails"),
        ({"methods": ["POST"]}, "GET", "/fails"),
        ({"statuses": [503]}, "GET", "/fails"),
        ({"path": "/cart/*"}, "GET", "/fails"),
    ],
)
async def test_what_does_not_fit_is_left_alone(world: World, terms: dict[str, Any], method: str, target: str) -> None:
    wish = await world.wish(**terms)
    response = await world.send(target, method)
    assert (response.status_code, response.text) == (500, "first")
    assert HEADER not in response.headers
    assert world.service.tries == {target: 1}
    assert (await world.client.send(get_request(wish))).status.debug_attachment_ref is None
    assert await world.client.send(list_attachments()) == []


@pytest.mark.parametrize("chunked", [False, True])
async def test_body_too_large_to_replay(world: World, chunked: bool) -> None:
    wish = await world.wish(methods=["POST"])
    body = b"x" * (BUFFER * 2)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 65_536):
            yield body[start : start + 65_536]

    response = await world.send("/fails", "POST", content=pieces() if chunked else body)
    assert (response.status_code, response.text) == (500, "first")
    assert world.service.tries == {"/fails": 1}
    assert len(world.service.requests[0].body) == len(body)
    assert (await world.client.send(get_request(wish))).status.debug_attachment_ref is None


async def test_one_of_fifty_failures_at_once_is_held(world: World) -> None:
    wish = await world.wish()
    second = await world.wish(armed=False)
    asked = [spawn(world.send(f"/fails?n={number}"), "get") for number in range(50)]
    attachment = await world.matched(wish)
    done: set[asyncio.Task[httpx.Response]] = set()
    while len(done) < 49:
        more, _ = await asyncio.wait([task for task in asked if task not in done], return_when=asyncio.FIRST_COMPLETED)
        done |= more
    assert {task.result().status_code for task in done} == {500}
    assert set(world.service.tries.values()) == {1}
    assert (await world.client.send(get_request(second))).status.debug_attachment_ref is None
    await world.attach(attachment.name)
    [held] = set(asked) - done
    assert (await held).status_code == 200
    assert sorted(world.service.tries.values()) == [1] * 49 + [2]


async def test_let_go_without_a_debugger_the_caller_gets_the_first_answer(world: World) -> None:
    wish = await world.wish()
    asked = spawn(world.send("/fails"), "get")
    attachment = await world.matched(wish)
    await world.client.send(release_attachment(attachment.name))
    response = await asked
    assert (response.status_code, response.text) == (500, "first")
    assert response.headers["content-type"] == "text/sad"
    said = parse(response.headers[HEADER])
    assert (said.outcome, said.reason) == (Outcome.RELEASED, Reason.RELEASED)
    assert not [name for name in response.headers if name.startswith("x-squash") and name != HEADER]
    assert world.service.tries == {"/fails": 1}


async def test_caller_hangs_up_while_held(world: World) -> None:
    wish = await world.wish()
    asked = spawn(world.send("/fails", timeout=90), "get")
    attachment = await world.matched(wish)
    asked.cancel()

    async def over() -> bool:
        return (await world.client.send(get_attachment(attachment.name))).status.outcome is not None

    await until(over)
    after = await world.client.send(get_attachment(attachment.name))
    assert after.status.outcome is Outcome.CALLER_GONE
    assert world.service.tries == {"/fails": 1}


async def test_marked_and_failed_requests_are_kept_apart(world: World) -> None:
    marked = await world.wish(trigger=None, armed=False)
    failing = await world.wish()
    assert (await world.send("/ok")).status_code == 200
    asked = spawn(world.send("/fails"), "get")
    assert (await world.matched(failing)).spec.trigger is Trigger.FAILURE
    assert (await world.client.send(get_request(marked))).status.debug_attachment_ref is None
    other = spawn(world.send("/ok", headers={MARK: "1"}), "get")
    by_mark = await world.matched(marked)
    assert by_mark.spec.trigger is None
    for name in (marked, failing):
        await world.client.send(delete_request(name))
    assert (await asked).status_code == 500
    assert (await other).status_code == 200


async def test_withdrawn_request_disarms(world: World) -> None:
    wish = await world.wish()
    await world.client.send(delete_request(wish))
    await world.until_runtime(0)
    assert (await world.send("/fails")).status_code == 500


async def test_next_request_like_a_slow_one_is_held(tmp_path: Path, front_end: FrontEnd) -> None:
    async with worlds(tmp_path, front_end) as world:
        world.service.pauses["/slow"] = 0.4
        wish = await world.wish(trigger=Trigger.LATENCY, threshold=0.3)
        assert (await world.send("/fast")).status_code == 200
        response = await world.send("/slow?n=1")
        assert (response.status_code, HEADER in response.headers) == (200, False)
        assert not [name for name in response.headers if name.startswith("x-squash")]
        await until(lambda: armed_for(world, "next"))
        assert (await world.send("/fast")).status_code == 200
        assert (await world.send("/slow", "POST")).status_code == 200
        del world.service.pauses["/slow"]
        asked = spawn(world.send("/slow?n=2"), "get")
        attachment = await world.matched(wish)
        spec = attachment.spec
        assert (spec.trigger, spec.held and spec.held.path) == (Trigger.LATENCY, "/slow?n=2")
        assert spec.failure is not None
        assert spec.failure.status == 200
        assert spec.failure.duration is not None
        assert 0.3 <= spec.failure.duration < 30
        assert set(spec.failure.headers or ()) == {"server", "x-envoy-upstream-service-time"}
        assert world.service.tries["/slow?n=2"] == 0
        await world.attach(attachment.name)
        response = await asked
        assert parse(response.headers[HEADER]).outcome is Outcome.ATTACHED
        assert world.service.tries["/slow?n=2"] == 1
        assert world.service.requests[-1].header(MARK) == "auto"


async def test_what_a_debugger_makes_slow_is_not_looked_out_for(tmp_path: Path) -> None:
    async with worlds(tmp_path) as world:
        world.service.pauses["/slow"] = 0.4
        first = await world.wish(trigger=Trigger.LATENCY, threshold=0.3)
        await world.send("/slow?n=1")
        await until(lambda: armed_for(world, "next"))
        await world.wish(trigger=Trigger.LATENCY, threshold=0.2)
        asked = spawn(world.send("/slow?n=2"), "get")
        await world.attach((await world.matched(first)).name)
        assert parse((await asked).headers[HEADER]).outcome is Outcome.ATTACHED
        await until(lambda: told(world, 'squash_auto_debug_total{decision="skipped",reason="marked"} 1.0'))
        assert await slow_from(world, 200)
        assert not await armed_for(world, "next")


async def told(world: World, line: str) -> bool:
    return line in (await world.held.http.get(world.held.sidecar_url + "/metrics")).text


@pytest.mark.parametrize("target", ["/claims", "/claims?fails=1"])
async def test_service_has_no_say_in_what_is_replayed(world: World, target: str) -> None:
    await world.wish()
    response = await world.send(target, "POST")
    assert response.text == "first"
    assert not [name for name in response.headers if name.startswith("x-squash")]
    assert world.service.tries[target] == 1


def pasted(config: dict[str, Any]) -> None:
    """Auto-debug's filters come first, those that hold are always on, and no route is for marked requests alone."""
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    filters = manager["http_filters"]
    auto = [one for one in filters if "auto" in one["name"]]
    holding = [one for one in filters[:-1] if one not in auto]
    for one in holding:
        del one["disabled"]
    manager["http_filters"] = [*auto, *holding, filters[-1]]
    host = manager["route_config"]["virtual_hosts"][0]
    host["routes"] = [route for route in host["routes"] if "headers" not in route["match"]]


async def test_pasted_in_the_wrong_order_it_holds_once(tmp_path: Path, front_end: FrontEnd) -> None:
    async with worlds(tmp_path, front_end, change=pasted) as world:
        world.service.pauses["/slow"] = 0.4
        wish = await world.wish(trigger=Trigger.LATENCY, threshold=0.3)
        await world.send("/slow?n=1")
        await until(lambda: armed_for(world, "next"))
        del world.service.pauses["/slow"]
        marked = await world.wish(trigger=None, armed=False)
        asked = spawn(world.send("/slow?n=2"), "get")
        attachment = await world.matched(wish)
        await world.attach(attachment.name)
        assert parse((await asked).headers[HEADER]).id == attachment.name
        assert [one.name for one in await world.client.send(list_attachments())] == [attachment.name]
        assert (await world.client.send(get_request(marked))).status.debug_attachment_ref is None
        assert world.service.tries["/slow?n=2"] == 1


async def test_triggers_leave_marked_requests_alone(tmp_path: Path) -> None:
    async with worlds(tmp_path, change=pasted) as world:
        world.service.hopeless = True
        failing = await world.wish()
        assert (await world.send("/fails", headers={MARK: "1"})).status_code == 500
        assert (await world.send("/fails", headers={"baggage": "squash=1"})).status_code == 500
        assert world.service.tries == {"/fails": 2}
        assert (await world.client.send(get_request(failing))).status.debug_attachment_ref is None
        world.service.pauses["/slow"] = 0.4
        slow = await world.wish(trigger=Trigger.LATENCY, threshold=0.3)
        await until(lambda: slow_from(world, 300))
        await world.send("/slow")
        await until(lambda: armed_for(world, "next"))
        assert parse((await world.send("/slow", headers={MARK: "1"})).headers[HEADER]).outcome is Outcome.NO_MATCH
        assert (await world.client.send(get_request(slow))).status.debug_attachment_ref is None


async def test_mark_that_does_not_count_keeps_nothing_from_being_held(tmp_path: Path) -> None:
    async with worlds(tmp_path, change=pasted, more=("--tickets", "required")) as world:
        wish = await world.wish()
        asked = spawn(world.send("/fails", headers={"baggage": "squash=forged"}), "get")
        attachment = await world.matched(wish)
        await world.attach(attachment.name)
        assert (await asked).text == "second"
        assert world.service.tries == {"/fails": 2}

"""Auto-debug, armed, on a real Envoy, while the sidecar or the coordinator is gone or frozen."""

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squash.model import Trigger
from squash.tasks import spawn
from tests.envoy_filter.auto_world import World, armed_for, until, worlds
from tests.envoy_filter.test_with_coordinator import coordinator


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with worlds(tmp_path) as running:
        yield running


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_sidecar_dead_while_armed(world: World, how: signal.Signals) -> None:
    await world.wish()
    await world.held.sidecar.end(how)
    for number in range(5):
        response = await world.send(f"/fails?n={number}")
        assert (response.status_code, response.text) == (500, "first")
        assert (await world.send(f"/ok?n={number}")).status_code == 200
    assert set(world.service.tries.values()) == {1}


async def test_sidecar_frozen_while_failures_are_looked_out_for(tmp_path: Path) -> None:
    async with worlds(tmp_path, request_timeout=10) as world:
        await world.wish()
        world.held.sidecar.send(signal.SIGSTOP)
        # Far below request_timeout, and the longest hold.
        response = await world.send("/fails", timeout=8)
        assert (response.status_code, response.text) == (500, "first")
        assert world.service.tries == {"/fails": 1}
        await only_the_first_asks(world, "/fails", 500)


async def test_sidecar_frozen_while_the_next_one_is_looked_out_for(tmp_path: Path) -> None:
    async with worlds(tmp_path, request_timeout=10) as world:
        world.service.pauses["/slow"] = 0.4
        await world.wish(trigger=Trigger.LATENCY, threshold=0.3)
        await world.send("/slow")
        await until(lambda: armed_for(world, "next"))
        world.held.sidecar.send(signal.SIGSTOP)
        assert (await world.send("/fast", timeout=8)).status_code == 200
        await only_the_first_asks(world, "/fast", 200)


async def only_the_first_asks(world: World, target: str, status: int) -> None:
    """Envoy has noticed by now that the sidecar is silent: others do not even ask."""
    before = await asked_of_sidecar(world)
    answers = [await world.send(f"{target}?n={number}") for number in range(20)]
    assert {response.status_code for response in answers} == {status}
    # One more may have found out whether it is still silent, and Envoy's discovery goes on.
    assert await asked_of_sidecar(world) - before < 10


async def asked_of_sidecar(world: World) -> float:
    return (await world.stats())["cluster.squash_sidecar.upstream_rq_total"]


async def test_sidecar_thawed_holds_again(tmp_path: Path) -> None:
    async with worlds(tmp_path, request_timeout=1) as world:
        wish = await world.wish()
        world.held.sidecar.send(signal.SIGSTOP)
        assert (await world.send("/fails")).status_code == 500
        world.held.sidecar.send(signal.SIGCONT)
        asked = spawn(failing(world), "get")
        attachment = await world.matched(wish)
        await world.attach(attachment.name)
        assert await asked


async def failing(world: World) -> bool:
    """Fails again and again, until one of these requests is held and replayed."""
    async with asyncio.timeout(60):
        for number in itertools.count():
            if (await world.send(f"/fails?again={number}")).text == "second":
                return True
            await asyncio.sleep(0.2)
    return False


async def test_sidecar_dies_while_it_holds(world: World) -> None:
    wish = await world.wish()
    asked = spawn(world.send("/fails"), "get")
    await world.matched(wish)
    await world.held.sidecar.end(signal.SIGKILL)
    response = await asked
    assert (response.status_code, response.text) == (500, "first")
    assert world.service.tries == {"/fails": 1}


async def test_coordinator_gone_and_back(tmp_path: Path) -> None:
    async with worlds(tmp_path) as world:
        wish = await world.wish()
        listen = world.client.url.removeprefix("http://")
        await world.process.end(signal.SIGKILL)
        response = await world.send("/fails")
        assert (response.status_code, response.text) == (500, "first")
        await world.until_runtime(0)
        async with coordinator(tmp_path, listen):
            await world.until_runtime(1)
            asked = spawn(world.send("/fails?again"), "get")
            attachment = await world.matched(wish)
            await world.attach(attachment.name)
            assert (await asked).text == "second"

"""When the place of an attachment goes: not before what its debugger has not finished."""

import asyncio
from pathlib import Path

import pytest

from agent import leavings
from agent.debuggers import Target
from agent.places import Places
from agent.process import Process
from squash.errors import SquashError
from squash.reasons import Reason
from squash.tasks import spawn


@pytest.mark.parametrize("done", [True, False])
async def test_a_place_stays_until_nothing_is_unfinished(done: bool, short: Path) -> None:
    places, over, process = Places(short), asyncio.Event(), Process.read(1)
    assert process

    async def unfinished() -> bool:
        await over.wait()
        return done

    place = places.make("node")
    target = Target(process, place.directory)
    target.unfinished.append(spawn(unfinished(), "unfinished"))
    leavings.clear(place, target, places)
    assert list(places.left_behind()) == [place]
    over.set()
    await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
    assert bool(list(places.left_behind())) is not done
    places.close()


async def test_a_place_with_nothing_unfinished_goes_at_once(short: Path) -> None:
    places, process = Places(short), Process.read(1)
    assert process
    place = places.make("node")
    leavings.clear(place, Target(process, place.directory), places)
    assert list(places.left_behind()) == []
    places.close()


def test_a_message_can_travel_whatever_a_file_is_called() -> None:
    assert SquashError(Reason.ATTACH_FAILED, "no \udcff.so").message == "no ?.so"

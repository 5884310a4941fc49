import asyncio

import pytest

from agent.process import Process
from agent.targets import Targets
from squash.errors import SquashError
from squash.reasons import Reason


def process(pid: int, start_time: int = 1) -> Process:
    return Process(pid, start_time, 1, "app", "/app", ("/app",), 0, 0)


async def test_a_second_attachment_is_refused_and_told_who_is_first() -> None:
    targets = Targets()
    await targets.occupy(process(7), "da-first")
    with pytest.raises(SquashError, match="da-first") as refusal:
        await targets.occupy(process(7), "da-second")
    assert refusal.value.reason is Reason.PROCESS_BUSY


async def test_another_process_of_the_same_pid_is_another_process() -> None:
    targets = Targets()
    await targets.occupy(process(7, start_time=1), "da-first")
    await targets.occupy(process(7, start_time=2), "da-second")


async def test_who_comes_while_the_occupant_leaves_waits_for_it() -> None:
    targets = Targets()
    await targets.occupy(process(7), "da-first")
    targets.leaving(process(7), "da-first")
    async with asyncio.TaskGroup() as group:
        second = group.create_task(targets.occupy(process(7), "da-second"))
        third = group.create_task(_refused(targets, process(7)))
        await asyncio.sleep(0)
        assert not second.done()
        assert not third.done()
        targets.leave(process(7), "da-first")
    assert third.result() is Reason.PROCESS_BUSY


async def _refused(targets: Targets, wanted: Process) -> Reason:
    with pytest.raises(SquashError) as refusal:
        await targets.occupy(wanted, "da-third")
    return refusal.value.reason


async def test_leaving_an_empty_process_is_nothing() -> None:
    targets = Targets()
    targets.leaving(process(7), "da-first")
    targets.leave(process(7), "da-first")
    await targets.occupy(process(7), "da-first")


async def test_only_the_occupant_can_leave() -> None:
    targets = Targets()
    await targets.occupy(process(7), "da-first")
    targets.leaving(process(7), "da-other")
    targets.leave(process(7), "da-other")
    with pytest.raises(SquashError, match="da-first"):
        await targets.occupy(process(7), "da-second")

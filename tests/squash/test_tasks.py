"""Background tasks: kept until they end, and never silent."""

import asyncio
import gc
import logging

import pytest

from squash.tasks import spawn


async def test_it_has_its_name_and_its_result() -> None:
    async def work() -> int:
        return 7

    task = spawn(work(), "seven")
    assert task.get_name() == "seven"
    assert await task == 7


async def test_it_is_kept_although_nobody_holds_it() -> None:
    done, go = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await go.wait()
        done.set()

    spawn(work(), "kept")
    gc.collect()
    go.set()
    async with asyncio.timeout(20):
        await done.wait()


async def test_a_failure_is_logged_with_the_name(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise ValueError("broken")

    with caplog.at_level(logging.ERROR):
        await asyncio.wait({spawn(work(), "fragile")})
        # The callback that logs runs right after the end.
        await asyncio.sleep(0)
    [record] = caplog.records
    assert record.getMessage() == "task failed"
    assert record.exc_info
    assert isinstance(record.exc_info[1], ValueError)
    assert vars(record)["fields"] == {"task": "fragile"}


async def test_a_cancelled_one_is_not(caplog: pytest.LogCaptureFixture) -> None:
    task = spawn(asyncio.Event().wait(), "waiting")
    task.cancel()
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert not caplog.records

"""Work that hangs takes nothing away from anybody else."""

import asyncio
import threading

import pytest

from agent import aside
from squash.errors import SquashError


async def test_it_returns_and_raises_like_a_call() -> None:
    assert await aside.aside(lambda: 42, "answer") == 42

    def fail() -> None:
        raise FileNotFoundError("gone")

    with pytest.raises(FileNotFoundError, match="gone"):
        await aside.aside(fail, "failure")


async def test_what_hangs_is_left_behind_and_others_get_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "MOST", 40)
    over = threading.Event()
    hanging = [asyncio.wait_for(aside.aside(over.wait, f"hangs {n}"), 0.2) for n in range(40)]
    try:
        for found in await asyncio.gather(*hanging, return_exceptions=True):
            assert isinstance(found, TimeoutError)
        assert await asyncio.to_thread(lambda: "detached") == "detached"
        with pytest.raises(SquashError, match="40 others hang already"):
            await aside.aside(lambda: None, "one more")
    finally:
        over.set()
        for thread in threading.enumerate():
            if thread.name.startswith("hangs"):
                thread.join()
    assert await aside.aside(lambda: "again", "later") == "again"

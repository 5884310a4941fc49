"""Whoever ends the debugging of a busy Go service, and in whatever moment: no thread dies of a breakpoint."""

from pathlib import Path

import pytest

from tests.agent.goservice import go_service
from tests.agent.leaves import WAYS, Leaves

LEAVES = 3
"""Of each kind. Left to delve alone, the service mostly dies of the first or the second."""


@pytest.mark.parametrize("way", WAYS)
async def test_a_busy_service_survives_each_leave(short: Path, way: str) -> None:
    async with go_service(short) as running:
        leaves = Leaves(running)
        async with leaves.traffic():
            for number in range(LEAVES):
                await leaves.take(way, number)
        assert not leaves.wrong, leaves.wrong[:3]
        assert leaves.sent > LEAVES
        await running.is_free()

"""Hundreds of debuggers that leave a Go service while 50 requests a second run into their breakpoint."""

import sys
from pathlib import Path

import pytest

from tests.agent.goservice import go_service
from tests.agent.leaves import Leaves
from tests.soak.width import WIDE

pytestmark = [
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not WIDE, reason="a few of each are in tests/agent/test_delve_leave.py"),
]

LEAVES = {"disconnect": 300, "Detach": 100, "vanish": 100, "kill": 100, "kill its guard": 100}


@pytest.mark.parametrize("way", LEAVES)
async def test_no_leave_harms_a_busy_service(short: Path, way: str) -> None:
    async with go_service(short) as running:
        leaves = Leaves(running)
        async with leaves.traffic():
            for number in range(LEAVES[way]):
                await leaves.take(way, number)
        sys.stdout.write(f"{way}: {LEAVES[way]} leaves, the longest {leaves.slowest:.2f} s; {leaves.sent} requests\n")
        assert not leaves.wrong, leaves.wrong[:3]
        await running.is_free()

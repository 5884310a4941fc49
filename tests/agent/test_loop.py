"""What an agent does before it follows the coordinator."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from agent.loop import Loop
from agent.places import Places
from squash.errors import SquashError
from squash.reasons import Reason


class Meets:
    """A debugger whose recoveries are done when there are several at once; one fails."""

    name = "meets"

    def __init__(self, number: int) -> None:
        self._all = asyncio.Barrier(number)
        self.failing: Path | None = None

    async def recover(self, directory: Path) -> None:
        await self._all.wait()
        if directory == self.failing:
            raise SquashError(Reason.ATTACH_FAILED, "it does not let go")


async def test_what_was_left_behind_is_undone_all_at_once(short: Path) -> None:
    first = Places(short)
    left = [first.make("meets") for _ in range(20)]
    first.close()
    debugger, second = Meets(len(left)), Places(short)
    debugger.failing = left[3].directory
    loop = Loop(
        cast(Any, SimpleNamespace(settings=SimpleNamespace(node="n"), places=second, debuggers={"meets": debugger}))
    )
    async with asyncio.timeout(20):
        await loop._recover()
    assert [place.directory for place in second.left_behind()] == [debugger.failing], "the next life tries again"
    second.close()

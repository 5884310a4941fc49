"""kill -9 of every part, at random moments of every phase: the process runs on, and the request is answered once.

`SQUASH_SEED` repeats a choice, `SQUASH_RUNS` sets how many; each run is told on stdout.
"""

import asyncio
import os
import secrets
import sys
import time
from itertools import islice
from pathlib import Path

import pytest

from demo.world import World
from tests.soak.kills import Case, Scene, build, cases
from tests.soak.width import rounds

pytestmark = pytest.mark.timeout(7200)
RUNS = int(os.environ.get("SQUASH_RUNS", rounds(12, 200)))
LANES = rounds(1, 2)


def test_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("SQUASH_SEED", secrets.randbelow(10**6)))
    chosen = list(islice(cases(seed), RUNS))
    sys.stdout.write(f"SQUASH_SEED={seed}\n")
    native = build(tmp_path)

    async def both() -> list[str]:
        lanes = [_lane(native, list(enumerate(chosen))[lane::LANES]) for lane in range(LANES)]
        return [failure for lane in await asyncio.gather(*lanes) for failure in lane]

    failures = asyncio.run(both())
    told = "\n".join(failures)
    assert not failures, f"{len(failures)} of {RUNS} runs with SQUASH_SEED={seed}:\n{told}"


async def _lane(native: Path, runs: list[tuple[int, Case]]) -> list[str]:
    """Plays runs one after the other, in a new world after each failure."""
    failures: list[str] = []
    while runs:
        with World("sq") as world:
            scene = await asyncio.to_thread(Scene, world, native)
            try:
                while runs:
                    number, case = runs.pop(0)
                    if failure := await _played(scene, number, case):
                        failures.append(failure)
                        break
            finally:
                await scene.close()
    return failures


async def _played(scene: Scene, number: int, case: Case) -> str:
    """What went wrong, or nothing."""
    begun, failure = time.monotonic(), ""
    try:
        await scene.play(case)
    except Exception as error:  # noqa: BLE001 - one failure must not hide the others
        failure = f"run {number}: {case}: {type(error).__name__}: {error}"
    took = time.monotonic() - begun
    sys.stdout.write(f"run {number:3} {took:5.1f} s  {case}{'  FAILED' if failure else ''}\n")
    sys.stdout.flush()
    return failure

"""kill -9 of every part, at random moments of every phase: the process runs on, and the request is answered once.

`SQUASH_SEED` repeats a choice, `SQUASH_RUNS` sets how many, `SQUASH_DEBUGGERS` of which (`node,jdwp`; all if not set);
each run is told on stdout.
"""

import asyncio
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import pytest

from demo.world import World
from tests.soak.cases import Case, Victim, cases
from tests.soak.kills import Scene, Ware
from tests.soak.width import WIDE, rounds

pytestmark = pytest.mark.timeout(7200)
RUNS = int(os.environ.get("SQUASH_RUNS", rounds(10, 210)))
"""The wide form has all 42 cases of debugpy, in one of which the injector is killed."""
LANES = rounds(1, 2)
MUST = {Victim.INJECTOR, Victim.TRACER, Victim.GUARD} if WIDE else {Victim.INJECTOR}
"""Of whom at least one must have been there still when its kill came; of few, some may have ended just before."""
DEBUGGERS = frozenset(os.environ.get("SQUASH_DEBUGGERS", "").split(",")) - {""}


def test_kills(tmp_path: Path) -> None:
    seed = int(os.environ.get("SQUASH_SEED", secrets.randbelow(10**6)))
    chosen = list(islice(cases(seed, DEBUGGERS), RUNS))
    sys.stdout.write(f"SQUASH_SEED={seed}\n")
    languages = {case.language.name: case.language for case in chosen}
    wares = {name: Ware(*language.built(tmp_path)) for name, language in languages.items()}

    killed: Counter[Victim] = Counter()

    async def both() -> list[str]:
        lanes = [_lane(wares, killed, list(enumerate(chosen))[lane::LANES]) for lane in range(LANES)]
        return [failure for lane in await asyncio.gather(*lanes) for failure in lane]

    failures = asyncio.run(both())
    sys.stdout.write(f"killed: {', '.join(f'{count} {victim}' for victim, count in killed.items())}\n")
    failures += [f"no {victim} was killed" for victim in MUST & {case.victim for case in chosen} if not killed[victim]]
    told = "\n".join(failures)
    assert not failures, f"{len(failures)} failures in {RUNS} runs with SQUASH_SEED={seed}:\n{told}"


async def _lane(wares: Mapping[str, Ware], killed: Counter[Victim], runs: list[tuple[int, Case]]) -> list[str]:
    """Plays runs one after the other, in a new world after each failure."""
    failures: list[str] = []
    while runs:
        with World("sq") as world:
            scene = await asyncio.to_thread(Scene, world, wares, killed)
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
        free = await scene.play(case)
    except Exception as error:  # noqa: BLE001 - one failure must not hide the others
        failure = f"run {number}: {case}: {type(error).__name__}: {error}\n{scene.last_words()}"
    took = time.monotonic() - begun
    said = "FAILED" if failure else f"free within {free:.2f} s"
    sys.stdout.write(f"run {number:3} {took:5.1f} s  {case}; {said}\n")
    sys.stdout.flush()
    return failure

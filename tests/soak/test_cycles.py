"""A hundred attachments to a service at work: no request is lost, no answer is wrong, and nothing stays behind."""

import asyncio
import sys
from pathlib import Path

import pytest

from demo.world import World
from tests.drivers.languages import LANGUAGES, Language
from tests.eventually import eventually
from tests.soak.cycles import RATE, Cycles, Traces
from tests.soak.width import WIDE, rounds

pytestmark = pytest.mark.timeout(3600)

CYCLES = rounds(3, 100)
WARM = rounds(1, 50)
"""Cycles after which a process has loaded what it keeps of its debugger, and its heap has found its size."""
FATTER = 5.0
"""Megabytes that a process may grow by in the cycles after those."""
READY = ("python", "cpp", "java", "node", "go")


@pytest.mark.parametrize("language", [LANGUAGES[name] for name in READY], ids=READY)
async def test_a_debugger_comes_and_goes(language: Language, tmp_path: Path) -> None:
    command, spot = await asyncio.to_thread(language.built, tmp_path)
    with World("sq") as world:
        cycles = await asyncio.to_thread(Cycles, world, language, command, spot)
        try:
            await asyncio.to_thread(cycles.first)
            async with cycles.traffic() as warm:  # a runtime makes threads and descriptors for its first callers
                await asyncio.to_thread(eventually, lambda: warm.right, lambda right: right >= RATE)
            before, files = await asyncio.to_thread(cycles.look), cycles.agent_files()
            async with cycles.traffic() as stream:
                for number in range(CYCLES):
                    await asyncio.to_thread(cycles.cycle)
                    if number + 1 == WARM:
                        mappings, resident = cycles.mappings(), cycles.resident()
            assert not stream.wrong, stream.wrong[:5]
            assert stream.right == stream.sent > 0
            assert cycles.service.process.poll() is None

            def clean(found: Traces) -> bool:
                return found.as_clean_as(before, language.own_threads)

            after = await asyncio.to_thread(eventually, cycles.look, clean)
            assert clean(after), f"{after} is not as {before}"
            assert cycles.agent_files() <= files + 4
            grown, fatter = cycles.mappings() - mappings, cycles.resident() - resident
            said = f"{stream.sent} requests, slowest {stream.slowest:.2f} s; {grown} mappings, {fatter:.1f} MB more"
            sys.stdout.write(f"{language.name}: {CYCLES} cycles, {said}\n")
            assert stream.sent >= RATE or not WIDE
            assert grown <= 10, said
            assert fatter <= FATTER, said
        finally:
            cycles.close()

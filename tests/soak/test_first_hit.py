"""The first marked request stops at the breakpoint, however long its developer takes between connecting and setting it.

Real Envoys, sidecars, services, debuggers and clients; the lanes work beside each other, each on a pod of its own.
"""

import asyncio
import subprocess
from pathlib import Path

import pytest

from demo.shop import Pod
from squash.calls import delete_attachment
from squash.model import Outcome
from squash.tasks import spawn
from tests import drivers
from tests.drivers import Spot
from tests.drivers.languages import LANGUAGES, NUMBER, USUAL, Language
from tests.e2e.street import Caller, Street, result
from tests.soak.width import rounds

pytestmark = pytest.mark.timeout(900)

LANES = rounds(2, 10)
TURNS = rounds(2, 10)
DAWDLING = 3.0
"""Seconds between connecting and setting the breakpoint, and those are what is tested."""
SILENCE = 60.0


def debug(language: Language, address: str, spot: Spot) -> str:
    """Connects, dawdles, sets a breakpoint, waits for it to be hit, and goes on. Where it was hit."""
    with drivers.connect(language.debugger, address, SILENCE) as client:
        # What a person does in between; no event tells of its end.
        subprocess.run(["sleep", f"{DAWDLING:g}"], check=True)
        client.begin(spot)
        stopped = client.stopped()
        client.go_on()
        client.leave()
        return stopped


async def turn(street: Street, caller: Caller, pod: Pod, language: Language, spot: Spot) -> str:
    """One marked request and its developer; where it stopped."""
    wish = street.wish(pod, debugger=language.debugger)
    marked = spawn(caller.get(f"{pod.url}/scaled?number={NUMBER}"), "marked request")
    attachment = await street.listening(wish)
    seen = await asyncio.to_thread(debug, language, attachment.status.debug_server_address or "", spot)
    answer = await marked
    assert result(answer).outcome is Outcome.ATTACHED
    assert answer.json()["answer"] == NUMBER * USUAL
    await asyncio.to_thread(street.client.send, delete_attachment(attachment.name))
    return seen


@pytest.mark.parametrize("language", LANGUAGES.values(), ids=LANGUAGES)
async def test_the_first_marked_request_stops_at_the_breakpoint(
    street: Street, caller: Caller, language: Language, tmp_path: Path
) -> None:
    street.world.agent()
    command, spot = await asyncio.to_thread(language.built, tmp_path)
    argv = [*command, "127.0.0.1:0", "2"]

    async def journey(number: int) -> list[str]:
        name = f"{language.name}-{number}"
        pod = await asyncio.to_thread(street.pod, name, command=argv, attachment_timeout=SILENCE)
        return [await turn(street, caller, pod, language, spot) for _ in range(TURNS)]

    seen = await asyncio.gather(*(journey(number) for number in range(LANES)))
    assert [each for found in seen for each in found] == [f"scaled:{spot.line}"] * (LANES * TURNS)

"""The first marked request stops at the breakpoint, however long its developer takes between connecting and setting it.

Real Envoys, sidecars, services, debuggers and clients; the lanes work beside each other, each on a pod of its own.
"""

import asyncio
import subprocess

import pytest

from demo.dap import Dap
from demo.scenes import PRICING_LINE, STOCK_LINE
from demo.shop import PRICING, STOCK, STOCK_PROGRAM, Pod
from demo.telling import line_of
from squash.calls import delete_attachment
from squash.model import DebugAttachment, Outcome
from squash.tasks import spawn
from tests.e2e.street import Caller, Street, result
from tests.soak.width import rounds

pytestmark = pytest.mark.timeout(900)

LANES = rounds(2, 10)
TURNS = rounds(2, 10)
DAWDLING = 3.0
"""Seconds between connecting and setting the breakpoint, and those are what is tested."""
SILENCE = 60.0


class Developer:
    """One who connects, dawdles, sets a breakpoint, waits for it to be hit, looks, and goes on."""

    async def debug(self, attachment: DebugAttachment) -> str:
        """What was seen at the breakpoint."""
        raise NotImplementedError


class PythonDeveloper(Developer):
    async def debug(self, attachment: DebugAttachment) -> str:
        return await asyncio.to_thread(self._debug, attachment.status.debug_server_address or "")

    def _debug(self, address: str) -> str:
        with Dap(address, timeout=SILENCE) as client:
            client.ask("initialize", adapterID="squash", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)
            attaching = client.send("attach", justMyCode=False)
            client.event("initialized")
            dawdle()
            line = line_of(PRICING, PRICING_LINE)
            client.ask("setBreakpoints", source={"path": str(PRICING)}, breakpoints=[{"line": line}])
            client.ask("setExceptionBreakpoints", filters=[])
            client.ask("configurationDone")
            client.answer(attaching)
            stopped = client.event("stopped")
            frame = client.ask("stackTrace", threadId=stopped["threadId"])["stackFrames"][0]
            client.ask("continue", threadId=stopped["threadId"])
            client.ask("disconnect")
            return f"{stopped['reason']} {frame['name']}:{frame['line'] - line}"


class NativeDeveloper(Developer):
    async def debug(self, attachment: DebugAttachment) -> str:
        address = (attachment.status.debug_server_address or "").removeprefix("unix:")
        place = f"{STOCK.name}:{line_of(STOCK, STOCK_LINE)}"
        steps = ["set confirm off", "set sysroot /", f"target remote {address}", f"shell sleep {DAWDLING:g}"]
        steps += [f"break {place}", "continue", "info symbol $pc", "detach", "quit"]
        words = ["gdb", "-nx", "-q", "-batch", *(word for step in steps for word in ("-ex", step)), str(STOCK_PROGRAM)]
        pipe = subprocess.PIPE
        client = await asyncio.create_subprocess_exec(*words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        try:
            said, errors = await asyncio.wait_for(client.communicate(), SILENCE)
        finally:
            if client.returncode is None:
                client.kill()
                await client.wait()
        text = said.decode()
        assert "hit Breakpoint 1" in text or "Breakpoint 1, " in text, text + errors.decode()
        return "breakpoint " + ("available:0" if "available(" in text else text)


def dawdle() -> None:
    """What a person does in between, and no event tells of its end."""
    subprocess.run(["sleep", f"{DAWDLING:g}"], check=True)


async def turn(street: Street, caller: Caller, pod: Pod, path: str, developer: Developer) -> str:
    """One marked request and its developer; what was seen."""
    wish = street.wish(pod)
    marked = spawn(caller.get(pod.url + path), "marked request")
    attachment = await street.listening(wish)
    seen = await developer.debug(attachment)
    answer = await marked
    assert result(answer).outcome is Outcome.ATTACHED
    await asyncio.to_thread(street.client.send, delete_attachment(attachment.name))
    return seen


@pytest.mark.parametrize(
    ("program", "path", "developer", "expected"),
    [
        ("pricing", "/price?items=melon:4,cheese:3", PythonDeveloper(), "breakpoint price:0"),
        ("stock", "/stock?items=plum:1", NativeDeveloper(), "breakpoint available:0"),
    ],
    ids=["debugpy", "gdb"],
)
async def test_the_first_marked_request_stops_at_the_breakpoint(
    street: Street, caller: Caller, program: str, path: str, developer: Developer, expected: str
) -> None:
    street.world.agent()

    async def journey(number: int) -> list[str]:
        name = f"{program}-{number}"
        pod = await asyncio.to_thread(street.pod, name, program=program, attachment_timeout=SILENCE)
        return [await turn(street, caller, pod, path, developer) for _ in range(TURNS)]

    seen = await asyncio.gather(*(journey(number) for number in range(LANES)))
    assert [each for found in seen for each in found] == [expected] * (LANES * TURNS)

"""What a Python process keeps of its debuggers, and of its own threads while one is there: nothing that adds up."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from agent.debuggers.debugpy import Debugpy
from demo.dap import Dap
from tests.eventually import eventually

from .pythons import pythons
from .targets import PROGRAM, Debuggee, debuggee, session, target
from .visits import LINE

THREADS = 50


def visit(address: str, service: Debuggee) -> tuple[Any, Any]:
    """Stops at a breakpoint and goes on; the objects of the process before and after it has made many threads."""
    with Dap(address) as client:
        client.attach({str(PROGRAM): [LINE]})
        service.tell("price 5")
        stopped = client.event("stopped")
        frame = client.ask("stackTrace", threadId=stopped["threadId"])["stackFrames"][0]
        scope = client.ask("scopes", frameId=frame["id"])["scopes"][0]["variablesReference"]
        client.ask("variables", variablesReference=scope)
        client.ask("continue", threadId=stopped["threadId"])
        assert service.answer() == {"price": 15}
        before = service.ask("kept")
        service.ask(f"threads {THREADS}")
        # A thread's end is seen by pydevd when it looks next.
        after = eventually(lambda: service.ask("kept"), lambda found: found["Thread"] < before["Thread"] + THREADS)
        client.ask("disconnect")
    return before, after


@pytest.mark.parametrize("python", pythons())
async def test_nothing_adds_up(python: str, short: Path) -> None:
    debugger = Debugpy()
    with debuggee("select", python) as service:

        async def attach_and_detach() -> None:
            server = await debugger.attach(target(service.facts(), short))
            async with session(debugger, server, short) as address:
                before, after = await asyncio.to_thread(visit, address, service)
            await server.detach()
            shutil.rmtree(short / "t")
            assert after["Thread"] < before["Thread"] + THREADS, "threads that have ended are not kept meanwhile"

        await attach_and_detach()
        first = await asyncio.to_thread(eventually, lambda: service.ask("kept"), lambda found: "PyDB" not in found)
        assert "PyDB" not in first
        await attach_and_detach()
        second = await asyncio.to_thread(eventually, lambda: lasting(service), lambda found: found == lasting_of(first))
        assert second == lasting_of(first)


def lasting(service: Debuggee) -> dict[str, int]:
    return lasting_of(service.ask("kept"))


def lasting_of(kept: dict[str, int]) -> dict[str, int]:
    """A thread that is just being traced when its debugger leaves keeps the wrapper of its trace function, and no more,
    until that frame ends."""
    return {name: count for name, count in kept.items() if name != "SafeCallWrapper"}

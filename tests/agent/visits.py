"""A client's visit to debugpy in a process, and what the process looks like afterwards."""

import asyncio
from typing import Any

from demo.dap import Dap
from tests.slowness import SLOWNESS

from .targets import PROGRAM, Debuggee

LINE = next(n for n, text in enumerate(PROGRAM.read_text().splitlines(), 1) if "the tests break here" in text)


def stop_at_price(address: str, service: Debuggee, *, change: str = "") -> dict[str, Any]:
    """A client's whole visit: a breakpoint, a request that runs into it, a look at the locals, and on."""
    with Dap(address, 20.0 * SLOWNESS) as client:
        found = client.attach({str(PROGRAM): [LINE]})
        assert [place["verified"] for place in found[str(PROGRAM)]] == [True]
        service.tell("price 5")
        stopped = client.event("stopped")
        frame = client.ask("stackTrace", threadId=stopped["threadId"])["stackFrames"][0]
        scope = client.ask("scopes", frameId=frame["id"])["scopes"][0]["variablesReference"]
        if change:
            client.ask("setVariable", variablesReference=scope, name="total", value=change)
        variables = client.ask("variables", variablesReference=scope)["variables"]
        client.ask("continue", threadId=stopped["threadId"])
        return {"line": frame["line"], "locals": {v["name"]: v["value"] for v in variables}, "answer": service.answer()}


def visit(address: str) -> None:
    with Dap(address) as client:
        client.attach({})


async def settled(service: Debuggee, before: object) -> object:
    """What the process looks like, as soon as it looks like before; else after 20 s: threads end after they say so."""
    found: object = None
    for _ in range(400 * SLOWNESS):
        found = await asyncio.to_thread(service.ask, "look"), service.outside()
        if found == before:
            break
        await asyncio.sleep(0.05)
    return found

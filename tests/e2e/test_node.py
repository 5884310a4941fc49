"""A marked request from its caller to a breakpoint in Node and back, with Node's own client and an editor's."""

import asyncio
import http.client
import json
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from demo.shop import SERVICES, Pod
from squash.calls import list_audit, ready_attachment
from squash.cli.editors import Place, configurations
from squash.model import Action, Phase
from squash.options import Address
from squash.tasks import spawn
from tests.agent.nodes import Client, RefusedError
from tests.e2e.street import SOON, Caller, Street, no_holds, result
from tests.eventually import eventually
from tests.squash.ctl import Ctl

PROMOTION = SERVICES / "promotion.js"
LINE = next(n for n, text in enumerate(PROMOTION.read_text().splitlines(), 1) if "const name =" in text)
RIGHT = {"points": 300, "gift": "bag"}


@pytest.fixture
def promotion(street: Street) -> Pod:
    world = street.world
    argv = ["node", "--inspect-port=0", str(PROMOTION), "--listen", "127.0.0.1:0"]
    service = world.service("promotion", "demo/promotion", argv)
    sidecar = world.sidecar("promotion", "--attachment-timeout", "60")
    envoy = world.envoy("promotion", service.where, sidecar.where, "--attachment-timeout", "60")
    return Pod("promotion", "demo/promotion", service, sidecar, envoy)


@contextmanager
def connected(ctl: Ctl, name: str, *more: str) -> Iterator[Address]:
    """Where `squashctl connect` serves."""
    running = ctl.start("connect", name, "--json", *more)
    try:
        port = re.search(r'"port": ?(\d+)', running.line())
        assert port
        yield Address("127.0.0.1", int(port[1]))
    finally:
        running.kill()


@asynccontextmanager
async def editor(at: Address) -> AsyncIterator[Client]:
    """Finds the WebSocket as editors do, on a connection of its own."""
    asking = http.client.HTTPConnection(at.host, at.port, timeout=60)
    asking.request("GET", "/json/list")
    [target] = json.loads(asking.getresponse().read())
    asking.close()
    async with connect(target["webSocketDebuggerUrl"], proxy=None, max_size=None) as connection:
        yield Client(connection)


async def set_breakpoint(client: Client) -> None:
    await client.ask("Runtime.enable")
    await client.ask("Debugger.enable")
    found = await client.ask("Debugger.setBreakpointByUrl", url=f"file://{PROMOTION}", lineNumber=LINE - 1)
    assert found["locations"]
    await client.ask("Runtime.runIfWaitingForDebugger")


async def test_an_editor_debugs_a_held_request(street: Street, promotion: Pod, caller: Caller, tmp_path: Path) -> None:
    street.world.agent()
    wish = street.wish(promotion)
    call = spawn(caller.get(f"{promotion.url}/gift?points=300"), "call")
    attached = await street.listening(wish)
    assert (attached.status.debugger, attached.status.protocol) == ("node", "inspector")
    ctl = Ctl(tmp_path, street.coordinator.where)
    with connected(ctl, attached.name) as at:
        async with editor(at) as client:
            assert not call.done()
            await client.ask("Debugger.enable")
            await client.ask("Debugger.setBreakpointByUrl", url="file:///elsewhere.js", lineNumber=4)
            await set_breakpoint(client)
            paused = await client.event("Debugger.paused")
            seen = await client.locals(paused)
            assert (seen["points"], seen["best"]) == (300, "50")
            await client.change(paused, "best", "250")
            await client.ask("Debugger.resume")
            answer = await call
            assert (answer.json(), result(answer).outcome) == (RIGHT, "attached")
            with connected(ctl, attached.name, "--takeover") as there:
                async with editor(there) as other:
                    said = await client.event("Inspector.detached")
                    assert "has taken over this session" in said["reason"]
                    await other.ask("Debugger.enable")
                    with pytest.raises(RefusedError, match="may not end the process"):
                        await other.ask("Runtime.terminateExecution")
    ready = await street.until(attached.name, lambda found: found.status.phase is Phase.READY)
    assert ready.status.message == "breakpoints not verified: file:///elsewhere.js:5"
    assert (await caller.get(f"{promotion.url}/gift?points=300", marked=False)).json()["gift"] == "sticker"
    noted = {Action.BREAKPOINTS, Action.CHANGED, Action.RESUMED, Action.TAKEN_OVER, Action.TERMINATION_REFUSED}
    eventually(lambda: {entry.action for entry in street.client.send(list_audit())}, lambda done: noted <= done)
    no_holds(promotion)


async def test_node_inspect_debugs_a_held_request(
    street: Street, promotion: Pod, caller: Caller, tmp_path: Path
) -> None:
    """By what squashctl tells its users to run."""
    street.world.agent()
    wish = street.wish(promotion)
    call = spawn(caller.get(f"{promotion.url}/gift?points=300"), "call")
    attached = await street.listening(wish)
    with connected(Ctl(tmp_path, street.coordinator.where), attached.name) as at:
        [(_, command)] = configurations(Place(at, "inspector", "node"), ["node"]).values()
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command.split(), stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, bufsize=1
        ) as client:
            said = _until(client, r"debug> ")
            assert not call.done(), said
            _tell(client, f"sb('promotion.js', {LINE})")
            _until(client, r"break in .*promotion\.js")
            _tell(client, "exec('best')")
            _until(client, r"'50'")
            _tell(client, "cont")
            answer = await call
            assert (answer.json()["gift"], result(answer).outcome) == ("sticker", "attached")
            client.kill()
    await street.until(attached.name, lambda found: found.status.phase is Phase.READY)
    no_holds(promotion)


async def test_who_sets_no_breakpoint_says_so_by_hand(
    street: Street, promotion: Pod, caller: Caller, tmp_path: Path
) -> None:
    street.world.agent()
    wish = street.wish(promotion)
    call = spawn(caller.get(f"{promotion.url}/gift?points=300"), "call")
    attached = await street.listening(wish)
    with connected(Ctl(tmp_path, street.coordinator.where), attached.name) as at:
        async with editor(at) as client:
            await client.ask("Debugger.enable")
            await client.ask("Runtime.runIfWaitingForDebugger")
            assert not call.done()
            street.client.send(ready_attachment(attached.name))
            assert result(await call).outcome == "attached"


async def test_the_agent_dies_while_the_process_stands_at_a_breakpoint(
    street: Street, promotion: Pod, caller: Caller, tmp_path: Path
) -> None:
    agent = street.world.agent()
    wish = street.wish(promotion)
    call = spawn(caller.get(f"{promotion.url}/gift?points=300"), "call")
    attached = await street.listening(wish)
    with connected(Ctl(tmp_path, street.coordinator.where), attached.name) as at:
        async with editor(at) as client:
            await set_breakpoint(client)
            await client.event("Debugger.paused")
            agent.kill()
            async with asyncio.timeout(SOON):
                answer = await call
            assert answer.json()["gift"] == "sticker"
    assert (await caller.get(f"{promotion.url}/gift?points=300", marked=False)).json()["gift"] == "sticker"


def _tell(process: "subprocess.Popen[str]", command: str) -> None:
    assert process.stdin
    process.stdin.write(f"{command}\n")
    process.stdin.flush()


def _until(process: "subprocess.Popen[str]", pattern: str) -> str:
    """Everything that it prints until the pattern is there."""
    assert process.stdout
    said = ""
    while not re.search(pattern, said):
        letter = process.stdout.read(1)
        assert letter, f"it ended: {said}"
        said += letter
    return said

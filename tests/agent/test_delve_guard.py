"""Whoever dies, and whenever: the Go process runs on, untraced, as it was built. A real delve, a real process."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent import delve_guard, traps
from agent.debuggers.delve import Delve, DelveServer
from agent.delve_start import UNIX
from agent.guarded import NOTES
from agent.rescue import Notes, Who
from agent.traps import TRAP
from tests.agent.delve_client import DapClient, Rpc
from tests.agent.goservice import BREAK, SELDOM, GoService, delve, go_service
from tests.agent.native import until

PHASES = ["silent", "halted", "stopped", "running"]


@pytest.fixture
async def running(short: Path) -> AsyncIterator[GoService]:
    async with go_service(short) as found:
        yield found


@pytest.fixture
async def server(running: GoService) -> AsyncIterator[DelveServer]:
    attached = await Delve(delve()).attach(running.target)
    yield attached
    await attached.detach()


async def reach(phase: str, client: Rpc, running: GoService) -> asyncio.Task[int] | None:
    """Brings a session into this phase; returns the request that stands at its breakpoint."""
    request = None
    if phase != "silent":
        await client.break_at(SELDOM if phase == "running" else BREAK)
    if phase in ("stopped", "running"):
        client.say("Command", name="continue")
    if phase == "stopped":
        request = running.begin(running.price(5))
        await client.stop()
    if phase == "running":
        assert await running.price() == 6
    return request


async def over(request: asyncio.Task[int] | None, running: GoService) -> None:
    """Whoever died, the request is answered as if nothing had been there, and the process runs on."""
    if request:
        assert await request == 15
    await running.is_free()
    await until(lambda: not running.debuggers())


async def freeze(pid: int) -> None:
    """Returns when every thread stands."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    await until(lambda: all(re.search(r"\) [Tt] ", (task / "stat").read_text()) for task in tasks.iterdir()))


@pytest.mark.parametrize("phase", PHASES)
async def test_the_client_vanishes(running: GoService, server: DelveServer, phase: str) -> None:
    client = Rpc(await server.connect())
    request = await reach(phase, client, running)
    await client.stream.close()
    await server.disconnected()
    await over(request, running)
    assert not (running.place / NOTES).exists()


async def test_a_dap_client_vanishes(running: GoService, server: DelveServer) -> None:
    client = DapClient(await server.connect())
    await client.ask("initialize", adapterID="go")
    client.say("attach", mode="remote")
    await client.event("initialized")
    await client.ask("configurationDone")
    await client.stream.close()
    await server.disconnected()
    await over(None, running)


@pytest.mark.parametrize("phase", PHASES)
async def test_delve_is_killed(running: GoService, server: DelveServer, phase: str) -> None:
    client = Rpc(await server.connect())
    request = await reach(phase, client, running)
    os.kill(running.delve(), signal.SIGKILL)
    await asyncio.wait_for(server.ended(), 20)
    await over(request, running)
    await client.stream.close()


@pytest.mark.parametrize("phase", PHASES)
async def test_the_guard_is_killed(running: GoService, server: DelveServer, phase: str) -> None:
    client = Rpc(await server.connect())
    request = await reach(phase, client, running)
    os.kill(running.guard(), signal.SIGKILL)
    await asyncio.wait_for(server.ended(), 20)
    await over(request, running)
    await client.stream.close()


@pytest.mark.parametrize("phase", ["halted", "running"])
async def test_delve_hangs(running: GoService, server: DelveServer, phase: str) -> None:
    client = Rpc(await server.connect())
    request = await reach(phase, client, running)
    await freeze(running.delve())
    await client.stream.close()
    await server.disconnected()
    await over(request, running)


STAND_IN = """
import asyncio, sys
from pathlib import Path
from agent.debuggers import Target
from agent import delve_guard, traps
from agent.debuggers.delve import Delve
from agent.process import Process
from tests.agent.delve_client import Rpc
async def main():
    pid, place, delve, line, stops = sys.argv[1:]
    server = await Delve(delve).attach(Target(Process.read(int(pid)), Path(place)))
    client = Rpc(await server.connect())
    await client.break_at(int(line))
    client.say("Command", name="continue")
    await client.stream.writer.drain()
    print("there", flush=True)
    if stops == "stopped":
        await client.stop()
        print("stopped", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def stand_in(running: GoService, phase: str) -> tuple[asyncio.subprocess.Process, asyncio.Task[int] | None]:
    """An agent of its own process group, with a session in this phase."""
    line = BREAK if phase == "stopped" else SELDOM
    arguments = (str(running.pid), str(running.place), delve(), str(line), phase)
    agent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STAND_IN, *arguments), stdout=subprocess.PIPE, start_new_session=True
    )
    assert agent.stdout
    assert await asyncio.wait_for(agent.stdout.readline(), 30) == b"there\n"
    request = None
    if phase == "stopped":
        request = running.begin(running.price(5))
        assert await asyncio.wait_for(agent.stdout.readline(), 30) == b"stopped\n"
    else:
        assert await running.price() == 6
    return agent, request


@pytest.mark.parametrize("phase", ["stopped", "running"])
async def test_the_agent_is_killed(running: GoService, phase: str) -> None:
    agent, request = await stand_in(running, phase)
    os.killpg(agent.pid, signal.SIGKILL)
    await agent.wait()
    await over(request, running)


@pytest.mark.parametrize("phase", ["stopped", "running"])
async def test_agent_and_guard_are_killed(running: GoService, phase: str) -> None:
    agent, request = await stand_in(running, phase)
    os.kill(running.guard(), signal.SIGSTOP)
    agent.kill()
    os.kill(running.guard(), signal.SIGKILL)
    await agent.wait()
    # The kernel has told delve: nobody needs to come.
    await over(request, running)
    await Delve().recover(running.place)
    assert not (running.place / NOTES).exists()


async def test_the_next_agent_recovers_from_a_delve_that_hangs(running: GoService) -> None:
    agent, request = await stand_in(running, "running")
    await freeze(running.delve())
    os.kill(running.guard(), signal.SIGSTOP)
    agent.kill()
    os.kill(running.guard(), signal.SIGKILL)
    await agent.wait()
    await Delve().recover(running.place)
    await over(request, running)
    assert not (running.place / NOTES).exists()


@pytest.mark.parametrize("moment", ["started", "traced"])
async def test_the_guard_is_killed_before_it_is_whole(running: GoService, server: DelveServer, moment: str) -> None:
    def come() -> bool:
        return bool(running.process.tracer) if moment == "traced" else (running.place / NOTES).exists()

    connecting = running.begin(server.connect())
    await until(come)
    os.kill(running.guard(), signal.SIGKILL)
    with contextlib.suppress(ConnectionError):  # it may just have been whole
        await (await connecting).close()
    await server.disconnected()
    await over(None, running)
    assert not (running.place / NOTES).exists()


async def test_notes_are_there_before_delve_and_nothing_ends_its_guard(running: GoService) -> None:
    stand_in, seen = running.place / "dlv", running.place / "seen"
    stand_in.write_text(
        f"#!/bin/sh\nkill -TERM $PPID; kill -INT $PPID\ncat {running.place / NOTES} >{seen}\necho not today\n"
    )
    stand_in.chmod(0o755)
    server = DelveServer(running.target, str(stand_in), UNIX)
    with pytest.raises(ConnectionError, match="not today"):
        await server.connect()
    notes = Notes.load(seen)
    assert notes
    assert notes.server
    assert (notes.target, notes.stopped) == (Who.of(running.pid), False)
    await server.detach()
    await over(None, running)


def code(pid: int, address: int, text: bytes = b"") -> bytes:
    """What stands at an address, where `text` is then written."""
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        before = os.pread(memory.fileno(), 1, address)
        os.pwrite(memory.fileno(), text, address)
    return before


@pytest.mark.parametrize("killed", [False, True])
async def test_traps_of_others_stay(running: GoService, server: DelveServer, killed: bool) -> None:
    address = running.address("main.never")
    before = code(running.pid, address, TRAP)
    client = Rpc(await server.connect())
    request = await reach("stopped", client, running)
    assert request
    if killed:
        os.kill(running.delve(), signal.SIGKILL)
        await asyncio.wait_for(server.ended(), 20)
    await client.stream.close()
    await server.disconnected()
    assert await request == 15
    assert traps.find(running.pid) == {address: before}
    if not killed:
        await (await server.connect()).close()  # it was no rescue, so the debugger is still wanted
        await server.disconnected()
    assert code(running.pid, address, before) == TRAP
    await over(None, running)


@pytest.mark.parametrize("killed", [False, True])
async def test_watchpoints_go_with_delve(running: GoService, server: DelveServer, killed: bool) -> None:
    client = Rpc(await server.connect())
    scope = {"GoroutineID": -1, "Frame": 0}
    await client.ask("CreateWatchpoint", Scope=scope, Expr="main.noted", Type=2)
    client.say("Command", name="continue")
    await running.moves()
    if killed:
        os.kill(running.delve(), signal.SIGKILL)
        await asyncio.wait_for(server.ended(), 20)
    await client.stream.close()
    await server.disconnected()
    assert await running.price() == 6  # which is noted
    await over(None, running)


async def test_why_delve_did_not_attach_is_said(running: GoService, tmp_path: Path) -> None:
    lazy = tmp_path / "dlv"
    lazy.write_text("#!/bin/sh\necho still reading\nexec sleep 60\n")
    lazy.chmod(0o755)
    assert delve_guard.patience(running.pid) > delve_guard.ATTACH
    server = DelveServer(running.target, str(lazy), UNIX)
    with pytest.raises(ConnectionError, match=r"did not attach within \d+ s: still reading"):
        await server.connect()
    await server.detach()
    await over(None, running)


async def test_there_may_be_nothing_to_recover(tmp_path: Path) -> None:
    await Delve().recover(tmp_path / "gone")
    (tmp_path / NOTES).write_text("{")
    await Delve().recover(tmp_path)


async def test_a_tracer_that_comes_later_keeps_the_client_out(running: GoService, server: DelveServer) -> None:
    with subprocess.Popen(["gdbserver", "--attach", "-", str(running.pid)], stderr=subprocess.PIPE) as other:
        assert other.stderr
        assert b"Attached" in other.stderr.readline()
        with pytest.raises(ConnectionError):
            await server.connect()
        other.kill()
    await over(None, running)

"""Whoever dies, and whenever: the process runs on, untraced, without a trap in it. A real gdbserver, a real process."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.debuggers.gdb import Gdb, GdbServer
from agent.guarded import NOTES
from agent.rescue import Notes
from agent.rsp import packet
from squash import procfs
from tests.agent.native import Client, Service, build, service, until

PHASES = ["silent", "greeted", "stopped", "running"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("native"))


@pytest.fixture
async def running(program: Path, tmp_path: Path) -> AsyncIterator[Service]:
    async with service(program, tmp_path) as found:
        yield found


@pytest.fixture
async def server(running: Service) -> AsyncIterator[GdbServer]:
    attached = await Gdb().attach(running.target)
    yield attached
    await attached.detach()


async def reach(phase: str, client: Client, running: Service) -> int:
    """Brings a session into this phase; returns where its breakpoint is."""
    address = running.address("never" if phase == "running" else "seldom")
    if phase != "silent":
        await client.greet()
    if phase in ("stopped", "running"):
        await client.run_with_breakpoint(address)
    if phase == "stopped":
        assert (await client.answer()).startswith(b"T05")
    if phase == "running":
        await until(lambda: running.byte(address) == b"\xcc")
    return address


@pytest.mark.parametrize("phase", PHASES)
async def test_the_client_vanishes(running: Service, server: GdbServer, phase: str) -> None:
    for _ in range(3):
        client = Client(await server.connect())
        address = await reach(phase, client, running)
        await client.stream.close()
        await server.disconnected()
        await running.is_free(address)
        assert not running.debuggers()
        assert not list(running.place.iterdir())


@pytest.mark.parametrize("phase", PHASES)
async def test_the_guard_is_killed(running: Service, server: GdbServer, phase: str) -> None:
    client = Client(await server.connect())
    address = await reach(phase, client, running)
    os.kill(running.guard(), signal.SIGKILL)
    await asyncio.wait_for(server.ended(), 10)
    await running.is_free(address)
    assert not running.debuggers()
    await client.stream.close()


@pytest.mark.parametrize("phase", PHASES)
async def test_gdbserver_is_killed(running: Service, server: GdbServer, phase: str) -> None:
    client = Client(await server.connect())
    address = await reach(phase, client, running)
    if phase == "stopped":
        assert await client.ask(b"z0,%x,1" % address) == b"OK"  # as gdb does when it stops
    os.kill(running.gdbserver(), signal.SIGKILL)
    await asyncio.wait_for(server.ended(), 10)
    await running.is_free(address)
    assert not running.debuggers()
    assert await client.answer() in (b"", b"OK")
    await client.stream.close()


async def test_gdbserver_hangs(running: Service, server: GdbServer) -> None:
    client = Client(await server.connect())
    address = await reach("running", client, running)
    os.kill(running.gdbserver(), signal.SIGSTOP)
    await client.stream.close()
    await server.disconnected()
    await running.is_free(address)
    assert not running.debuggers()


STAND_IN = """
import asyncio, sys
from pathlib import Path
from agent.debuggers import Target
from agent.debuggers.gdb import Gdb
from agent.process import Process
from tests.agent.native import Client
async def main():
    pid, place, address, stops = sys.argv[1:]
    server = await Gdb().attach(Target(Process.read(int(pid)), Path(place)))
    client = Client(await server.connect())
    await client.greet()
    await client.run_with_breakpoint(int(address))
    if stops == "stopped":
        await client.answer()
    else:
        await client.stream.writer.drain()
    print("there", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def stand_in(running: Service, phase: str) -> tuple[asyncio.subprocess.Process, int]:
    """An agent of its own process group, with a session in this phase."""
    address = running.address("seldom" if phase == "stopped" else "never")
    arguments = (str(running.child.pid), str(running.place), str(address), phase)
    agent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STAND_IN, *arguments), stdout=subprocess.PIPE, start_new_session=True
    )
    assert agent.stdout
    assert await asyncio.wait_for(agent.stdout.readline(), 20) == b"there\n"
    if phase == "running":
        await until(lambda: running.byte(address) == b"\xcc")
    return agent, address


@pytest.mark.parametrize("phase", ["stopped", "running"])
async def test_the_agent_is_killed(running: Service, phase: str) -> None:
    agent, address = await stand_in(running, phase)
    os.killpg(agent.pid, signal.SIGKILL)
    await agent.wait()
    await running.is_free(address)
    await until(lambda: not running.debuggers())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_the_guard_ignores_what_ends_a_service(running: Service, server: GdbServer, number: int) -> None:
    client = Client(await server.connect())
    await client.greet()
    os.kill(running.guard(), number)
    assert await client.ask(b"qC")
    await client.stream.close()
    await server.disconnected()
    await running.is_free()


@pytest.mark.parametrize("phase", ["stopped", "running"])
async def test_agent_and_guard_are_killed_and_the_next_agent_recovers(running: Service, phase: str) -> None:
    agent, address = await stand_in(running, phase)
    os.kill(running.guard(), signal.SIGSTOP)
    agent.kill()
    os.kill(running.guard(), signal.SIGKILL)
    await agent.wait()
    notes = Notes.load(running.place / NOTES)
    assert notes
    assert list(notes.originals) == [address]
    await Gdb().recover(running.place)
    await running.is_free(address)
    assert not running.debuggers()
    assert not (running.place / NOTES).exists()


async def test_recovery_waits_for_a_guard_that_is_at_it(running: Service) -> None:
    agent, address = await stand_in(running, "running")
    agent.kill()
    await Gdb().recover(running.place)
    await running.is_free(address)
    assert not running.debuggers()
    await agent.wait()


async def test_there_may_be_nothing_to_recover(tmp_path: Path) -> None:
    await Gdb().recover(tmp_path / "gone")
    (tmp_path / NOTES).write_text("{")
    await Gdb().recover(tmp_path)


@pytest.mark.parametrize("text", [b"D", b"vKill;1", b"qRcmd,65786974"])
async def test_leaving_is_answered_when_the_process_is_free(running: Service, server: GdbServer, text: bytes) -> None:
    client = Client(await server.connect())
    address = await reach("stopped", client, running)
    assert await client.ask(text) == b"OK"
    await running.is_free(address)
    assert await client.answer() == b""
    await client.stream.close()
    await server.disconnected()
    assert not running.debuggers()


@pytest.mark.parametrize("text", [b"k", b"R00"])
async def test_killing_without_an_answer_only_ends_the_session(
    running: Service, server: GdbServer, text: bytes
) -> None:
    client = Client(await server.connect())
    address = await reach("stopped", client, running)
    assert await client.ask(text) == b""
    await client.stream.close()
    await server.disconnected()
    await running.is_free(address)


async def test_what_is_refused_leaves_the_session_as_it_was(running: Service, server: GdbServer) -> None:
    client = Client(await server.connect())
    assert await client.ask(b"vRun;2f62696e2f74727565") == b"E01"
    client.stream.writer.write(b"+")
    await client.greet()
    assert await client.ask(b"vFile:unlink:2f746d702f78") == b"F-1,1"
    assert (await client.ask(b"qC")).startswith(b"QC")
    await client.stream.close()
    await server.disconnected()
    await running.is_free()


async def test_an_interrupt_stops_a_process_that_leads_no_group(running: Service, server: GdbServer) -> None:
    client = Client(await server.connect())
    await reach("running", client, running)
    client.interrupt()
    assert (await client.answer()).startswith(b"T02")
    client.say(b"vCont;c")
    await running.moves()
    client.interrupt()
    assert (await client.answer()).startswith(b"T02")
    await client.stream.close()
    await server.disconnected()
    await running.is_free()


async def test_an_interrupt_that_crosses_a_stop_is_for_what_runs_next(running: Service, server: GdbServer) -> None:
    """gdb sends one whenever a person presses Ctrl-C, also between two of the steps by which it leaves a breakpoint."""
    client = Client(await server.connect())
    await client.greet()
    client.interrupt()
    client.say(b"vCont;c")
    assert (await client.answer()).startswith(b"T02")
    client.say(b"vCont;c")
    await running.moves()
    await client.stream.close()
    await server.disconnected()
    await running.is_free()


async def test_an_interrupt_that_meets_a_breakpoint_is_not_lost(running: Service, server: GdbServer) -> None:
    client = Client(await server.connect())
    await client.greet()
    address = running.address("seldom")
    for _ in range(30):
        # The breakpoint is hit every 5 ms: somewhere around there the interrupt comes.
        await client.run_with_breakpoint(address)
        client.interrupt()
        stop = await client.answer()
        assert await client.ask(b"z0,%x,1" % address) == b"OK"
        if stop.startswith(b"T05"):
            client.say(b"vCont;c")
            stop = await client.answer()
        assert stop.startswith(b"T02")
    await client.stream.close()
    await server.disconnected()
    await running.is_free(address)


async def test_a_request_while_the_process_runs_ends_the_session(running: Service, server: GdbServer) -> None:
    client = Client(await server.connect())
    address = await reach("running", client, running)
    client.stream.writer.write(packet(b"g"))
    assert await client.answer() == b""
    await client.stream.close()
    await server.disconnected()
    await running.is_free(address)


async def test_the_process_ends_under_the_client(running: Service, server: GdbServer) -> None:
    client = Client(await server.connect())
    await reach("running", client, running)
    running.child.kill()
    assert (await client.answer()).startswith((b"X09", b"X9"))
    await asyncio.wait_for(server.ended(), 10)
    await client.stream.close()
    await server.disconnected()
    await until(lambda: not running.debuggers())
    assert procfs.stat(running.child.pid)

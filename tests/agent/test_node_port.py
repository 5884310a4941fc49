"""The port by which Node's inspector is reached: when it is open, for whom, and that it is closed again."""

import asyncio
import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from agent import line, nodeport
from agent.debuggers.node import Node
from agent.process import Process
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason

from .native import until
from .nodes import attached, client, free_port, service, stop_at_price
from .targets import target


@pytest.mark.parametrize("how", ["options", "environment"])
async def test_an_inspector_that_is_on_is_used_and_stays_on(how: str, short: Path) -> None:
    option = "--inspect=127.0.0.1:0"
    node, environment = ((option,), {}) if how == "options" else (("--no-warnings",), {"NODE_OPTIONS": option})
    with service(node=node, environment=environment) as running:
        before = running.outside()
        assert before["inside"]["inspector"]
        async with attached(running, short) as (_, address), client(address) as caller:
            assert (await stop_at_price(caller, running))["answer"] == {"price": 15}
        assert await running.settled(before) == before


async def test_an_inspector_that_anybody_can_reach_is_told_of(short: Path) -> None:
    with service(node=("--inspect=0.0.0.0:0",)) as running:
        found = target(running.facts(), short)
        server = await Node().attach(found)
        await server.detach()
        [tried] = found.attempts
        assert tried.reason is None
        assert tried.message
        assert "open to other machines" in tried.message


async def test_a_process_that_would_die_of_the_signal_is_left_alone(short: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        process = Process.read(sleeper.pid)
        assert process
        assert Node().claim(process) < 0
        with pytest.raises(SquashError, match="does not handle SIGUSR1") as refusal:
            await Node().attach(target(process, short))
        assert refusal.value.reason is Reason.DEBUGGER_UNSUITED
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


async def test_a_port_that_somebody_else_has_is_named(short: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with service(node=(f"--inspect-port={port}",)) as running:
            with pytest.raises(SquashError, match=f"wants port {port}, which another") as refusal:
                await Node().attach(target(running.facts(), short))
            assert refusal.value.reason is Reason.DEBUGGER_UNSUITED


async def test_a_port_that_another_agent_opens_in_that_moment_is_named(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both saw that it was free, and each woke a process of its own."""
    monkeypatch.setattr(nodeport, "WAKE", 1.0)
    monkeypatch.setattr(nodeport, "LATE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with service(node=(f"--inspect-port={port}",)) as running, monkeypatch.context() as meanwhile:
            meanwhile.setattr(nodeport, "_stays_taken", lambda pid, port: False)
            before = running.outside()
            found = target(running.facts(), short)
            with pytest.raises(SquashError, match=f"another process of its network had port {port}"):
                await Node().attach(found)
            await asyncio.wait(found.unfinished)
            taken.close()
            server = await Node().attach(found)
            await server.detach()
            assert await running.settled(before) == before


async def test_processes_that_want_the_same_port_take_turns(short: Path) -> None:
    option = f"--inspect-port={free_port()}"
    debugger = Node()
    with service(node=(option,)) as one, service(node=(option,)) as two:
        for name in ("one", "two"):
            (short / name).mkdir()
        attaching = [debugger.attach(target(each.facts(), short / name)) for name, each in (("one", one), ("two", two))]
        for server in await asyncio.gather(*attaching):
            await server.detach()


async def test_the_primary_of_a_cluster_would_open_the_ports_of_all(short: Path) -> None:
    code = """
const cluster = require('cluster');
if (cluster.isMaster) { cluster.fork().on('online', () => console.log('up')); cluster.fork(); }
else setInterval(() => {}, 1000);
"""
    program = short / "cluster.js"
    program.write_text(code)
    primary = subprocess.Popen(["node", program], stdout=subprocess.PIPE, text=True)
    try:
        assert primary.stdout
        assert primary.stdout.readline() == "up\n"
        process = Process.read(primary.pid)
        assert process
        workers = procfs.children(primary.pid)
        with pytest.raises(SquashError, match="primary of a cluster") as refusal:
            await Node().attach(target(process, short))
        assert str(workers[0]) in refusal.value.message
        worker = Process.read(workers[0])
        assert worker
        assert Node().claim(worker) > Node().claim(process) > 0.5
    finally:
        for pid in (*procfs.children(primary.pid), primary.pid):
            os.kill(pid, signal.SIGKILL)
        primary.communicate()


async def test_somebody_who_is_connected_meanwhile_does_not_stop_the_process(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that closes waits for its clients, and the main thread with it."""
    connected: list[Any] = []
    genuine = nodeport._connect

    def late(process: Process, place: nodeport.Place) -> Any:
        if not connected:
            connected.append(())
            connected[0] = genuine(process, place)
        return genuine(process, place)

    monkeypatch.setattr(nodeport, "_connect", late)
    with service() as running:
        before = running.outside()
        found = target(running.facts(), short)
        server = await Node().attach(found)
        assert await running.asks("price", 5) == {"price": 15}
        [tried] = found.attempts
        assert tried.message
        assert f"somebody else (uid {os.getuid()}) was connected" in tried.message
        connected[0][0].close()
        await server.detach()
        assert await running.settled(before) == before, "it closed when they had left"


async def test_what_was_left_open_is_closed_by_the_next_life(short: Path) -> None:
    port = free_port()
    with service(node=(f"--inspect-port={port}",)) as running:
        before = running.outside()
        process = running.facts()
        found = target(process, short)
        found.directory.with_suffix(".woken").write_text(
            json.dumps({"pid": process.pid, "start_time": process.start_time})
        )
        os.kill(running.pid, signal.SIGUSR1)
        await until(lambda: port in {taken for _, taken in procfs.listening(running.pid)})
        await Node().recover(found.directory)
        assert await running.settled(before) == before


async def test_a_port_that_was_opened_for_nothing_is_closed(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers the agent at first: a network that is short of something, a process short of descriptors."""
    genuine, tries = nodeport._connect, iter(range(2))

    def fails_at_first(process: Process, place: nodeport.Place) -> Any:
        if next(tries, None) is not None:
            raise ConnectionError("nobody answers")
        return genuine(process, place)

    monkeypatch.setattr(nodeport, "_connect", fails_at_first)
    with service(node=(f"--inspect-port={free_port()}",)) as running:
        before = running.outside()
        with pytest.raises(SquashError, match=r"cannot be reached .* nobody answers"):
            await Node().attach(target(running.facts(), short))
        assert await running.settled(before) == before


async def test_a_port_that_opens_too_late_is_closed(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodeport, "WAKE", -1.0)
    monkeypatch.setattr(nodeport, "_check_signal", lambda process: os.kill(process.pid, signal.SIGSTOP))
    with service(node=(f"--inspect-port={free_port()}",)) as running:
        before = running.outside()
        found = target(running.facts(), short)
        note = found.directory.with_suffix(".woken")
        try:
            with pytest.raises(SquashError, match="did not open its inspector"):
                await Node().attach(found)
            assert note.exists(), "an agent that dies now is followed by one that closes the port"
        finally:
            os.kill(running.pid, signal.SIGCONT)
        assert (await running.complaint()).startswith("Debugger listening on ")
        assert await running.settled(before) == before
        await asyncio.wait(found.unfinished)
        assert [task.result() for task in found.unfinished] == [True]
        assert not note.exists()


async def test_a_port_that_does_not_open_stays_noted(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does an attach that is given up while the port is waited for forget it."""
    monkeypatch.setattr(nodeport, "WAKE", 1.0)
    monkeypatch.setattr(nodeport, "LATE", 0.1)
    monkeypatch.setattr(nodeport, "_check_signal", lambda process: os.kill(process.pid, signal.SIGSTOP))
    with service(node=(f"--inspect-port={free_port()}",)) as running:
        before = running.outside()
        found = target(running.facts(), short)
        note = found.directory.with_suffix(".woken")
        try:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await Node().attach(found)
            await asyncio.wait(found.unfinished)
            assert [task.result() for task in found.unfinished] == [False]
            assert note.exists()
        finally:
            os.kill(running.pid, signal.SIGCONT)
        assert (await running.complaint()).startswith("Debugger listening on ")
        await Node().recover(found.directory)
        assert await running.settled(before) == before


async def test_nothing_of_the_programs_options_comes_into_the_worker(short: Path) -> None:
    hook = short / "hook.js"
    hook.write_text("if (!require('worker_threads').isMainThread) process.abort();")
    with service(environment={"NODE_OPTIONS": f"--require {hook}"}) as running:
        async with attached(running, short) as (_, address), client(address) as caller:
            assert (await stop_at_price(caller, running))["answer"] == {"price": 15}


@pytest.mark.parametrize("version", ["12.22.12", "18.16.1", "19.8.1"])
async def test_a_version_that_would_not_live_through_it_is_refused(version: str, short: Path) -> None:
    hook = short / "hook.js"
    hook.write_text(f"Object.defineProperty(process, 'versions', {{ value: {{ node: '{version}' }} }});")
    with service(node=("--require", str(hook), "--inspect-port=0")) as running:
        before = running.outside()
        with pytest.raises(SquashError, match=f"Node {version} crashes .* takes 18.17") as refusal:
            await Node().attach(target(running.facts(), short))
        assert refusal.value.reason is Reason.DEBUGGER_UNSUITED
        assert await running.settled(before) == before


async def test_who_leaves_at_once_waits_for_nobody(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is made ahead for the first client: the worker that is told to go has dialed, or never will."""
    monkeypatch.setattr(line, "CONNECT", 1000.0)
    with service() as running:
        for _ in range(8):
            server = await Node().attach(target(running.facts(), short))
            async with asyncio.timeout(20):
                await server.detach()

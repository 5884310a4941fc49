"""Guards that wait for a client, started ahead."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.debuggers.gdb import Gdb, GdbServer
from agent.nursery import Nursery
from agent.summons import WAITING
from squash import procfs
from tests.agent.goservice import ROOT
from tests.agent.native import Client, Service, build, service, until


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("native"))


@pytest.fixture
async def running(program: Path, short: Path) -> AsyncIterator[Service]:
    async with service(program, short) as found:
        yield found


@pytest.fixture
async def guards() -> AsyncIterator[Nursery]:
    made = Nursery()
    yield made
    await made.close()
    assert not waiting()


def waiting() -> list[int]:
    """Pids of guards of this test process that wait."""
    stats = ((pid, procfs.stat(pid)) for pid in procfs.pids())
    return [pid for pid, stat in stats if stat and stat.comm == WAITING and stat.ppid == os.getpid()]


async def attached(running: Service, guards: Nursery) -> tuple[GdbServer, int]:
    """A debug server, and the pid of the guard that waits."""
    server = await Gdb().attach(replace(running.target, guards=guards))
    await until(waiting)
    return server, waiting()[0]


async def test_a_client_is_served_by_the_guard_that_waits(running: Service, guards: Nursery) -> None:
    server, guard = await attached(running, guards)
    for _ in range(3):
        client = Client(await server.connect())
        await client.greet()
        assert running.guard() == guard
        await client.stream.close()
        await server.disconnected()
        await running.is_free()
        assert not running.debuggers()
        await until(waiting)
        [guard] = waiting()
    await server.detach()


async def test_several_clients_at_once_each_have_a_guard(short: Path, program: Path, guards: Nursery) -> None:
    (short / "a").mkdir()
    (short / "b").mkdir()
    async with service(program, short / "a") as first, service(program, short / "b") as second:
        servers = [await Gdb().attach(replace(each.target, guards=guards)) for each in (first, second)]
        clients = [Client(stream) for stream in await asyncio.gather(*(server.connect() for server in servers))]
        await asyncio.gather(*(client.greet() for client in clients))
        assert first.guard() != second.guard()
        for client, server in zip(clients, servers, strict=True):
            await client.stream.close()
            await server.detach()


async def test_one_that_stands_still_is_ended_with_the_agent(running: Service) -> None:
    guards = Nursery()
    server, guard = await attached(running, guards)
    os.kill(guard, signal.SIGSTOP)
    async with asyncio.timeout(10):
        await guards.close()
    await server.detach()
    assert not waiting()


async def test_a_guard_that_died_waiting_is_replaced(running: Service, guards: Nursery) -> None:
    server, guard = await attached(running, guards)
    os.kill(guard, signal.SIGKILL)
    client = Client(await server.connect())
    await client.greet()
    assert running.guard() != guard
    await client.stream.close()
    await server.detach()
    await running.is_free()


@pytest.mark.parametrize("module", ["agent.guard", "agent.delve_start"])
def test_it_ends_with_the_agent(module: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-c", f"from {module} import main; main()"]
        guard = subprocess.Popen(command, cwd=ROOT, stdin=theirs.fileno(), stderr=subprocess.PIPE)
    ours.sendall(str(os.getpid()).encode())  # not all that it waits for
    ours.close()
    _, said = guard.communicate(timeout=20)
    assert (guard.returncode, said) == (0, b"")


async def test_no_gdbserver_runs_that_the_notes_do_not_name(running: Service) -> None:
    """As on a full disk: the file of the notes cannot be written."""
    (running.place / "guard.json.new").mkdir()
    server = await Gdb().attach(running.target)
    with pytest.raises(ConnectionError, match=r"could not be started: .*Is a directory"):
        await server.connect()
    await server.detach()
    assert not running.debuggers()
    await running.is_free()


async def test_a_gdbserver_that_ends_at_once_is_noticed(running: Service) -> None:
    for _ in range(10):
        server = await Gdb("false").attach(running.target)
        async with asyncio.timeout(4):
            with pytest.raises(ConnectionError, match="gdbserver ended"):
                await server.connect()
        await server.detach()
    await running.is_free()

"""Guards that wait for their client, started when the process was attached to."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.debuggers.gdb import Gdb
from agent.guarded import NOTES
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


async def waiting(running: Service) -> int:
    """The pid of a guard that has loaded what it needs."""
    await until(lambda: len(running.debuggers()) == 1)
    pid = running.guard()
    # It does nothing but read what it is told.
    await until(lambda: (stat := procfs.stat(pid)) is not None and stat.state == "S")
    return pid


async def test_one_client_is_served_by_the_guard_that_waits(running: Service) -> None:
    server = await Gdb().attach(running.target)
    guard = await waiting(running)
    client = Client(await server.connect())
    await client.greet()
    assert running.guard() == guard
    await client.stream.close()
    await server.disconnected()
    await running.is_free()
    assert not running.debuggers(), "the next one has a guard of its own, when it comes"
    await (await server.connect()).close()
    await server.detach()
    assert not running.debuggers()


async def test_a_guard_that_died_waiting_is_replaced(running: Service) -> None:
    server = await Gdb().attach(running.target)
    guard = await waiting(running)
    os.kill(guard, signal.SIGKILL)
    await until(lambda: not running.debuggers())
    client = Client(await server.connect())
    await client.greet()
    assert running.guard() != guard
    await client.stream.close()
    await server.detach()
    await running.is_free()


async def test_it_ends_with_the_debug_server(running: Service) -> None:
    server = await Gdb().attach(running.target)
    await waiting(running)
    await server.detach()
    assert not running.debuggers()
    assert not list(running.place.iterdir())


async def test_it_ends_with_an_attach_that_is_given_up_at_once(running: Service) -> None:
    for _ in range(3):
        server = await Gdb().attach(running.target)
        await server.detach()
        assert not running.debuggers()


@pytest.mark.parametrize("module", ["agent.guard", "agent.delve_start"])
def test_it_ends_with_the_agent(module: str, running: Service) -> None:
    notes = running.place / NOTES
    command = [sys.executable, "-c", f"from {module} import main; main()", str(running.child.pid), str(notes)]
    ours, theirs = socket.socketpair()
    with theirs:
        guard = subprocess.Popen(command, cwd=ROOT, stdin=theirs.fileno(), stderr=subprocess.PIPE)
    ours.sendall(b"gdbserver")  # not all that it waits for
    ours.close()
    _, said = guard.communicate(timeout=20)
    assert (guard.returncode, said) == (0, b"")
    assert not notes.exists()
    assert not running.process.tracer


async def test_a_gdbserver_that_ends_at_once_is_noticed(running: Service) -> None:
    for _ in range(10):
        server = await Gdb("false").attach(running.target)
        async with asyncio.timeout(4):
            with pytest.raises(ConnectionError, match="gdbserver ended"):
                await server.connect()
        await server.detach()
    await running.is_free()

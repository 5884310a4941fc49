"""Threads whose debugger is killed between their trap and what it does about it. Real processes, real signals."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent import rescue, stragglers
from agent.debuggers.delve import Delve
from agent.guarded import NOTES
from agent.rescue import Notes, Who
from agent.taskstat import stopped
from agent.traps import TRAP
from tests.agent.goservice import ROOT, GoService, go_service
from tests.agent.native import until

pytestmark = pytest.mark.skipif(not stragglers.KNOWN, reason="what a signal's frame looks like is not known here")

DEBUGGER = """
import os, sys
from agent.ptrace import CONT, SEIZE, WALL, GoneError, _ptrace
pid, address, sees = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "seen"
for thread in os.listdir(f"/proc/{pid}/task"):
    _ptrace(SEIZE, int(thread), 0, 8)
memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
os.pwrite(memory, b"\\xcc", address)
print("armed", flush=True)
while True:
    found = os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WEXITED | os.WNOWAIT | WALL)
    if found.si_status == 5 and not sees:
        break
    thread, status = os.waitpid(found.si_pid, WALL)
    if os.WIFSTOPPED(status):
        number, event = os.WSTOPSIG(status), status >> 16
        if number == 5 and not event:
            break
        try:
            _ptrace(CONT, thread, 0, 0 if event else number)
        except GoneError:
            pass
print("trapped", flush=True)
sys.stdin.read()
"""
"""Traces every thread, and stands idle when one has trapped: it has `seen` it, or not."""


@pytest.fixture
async def running(short: Path) -> AsyncIterator[GoService]:
    async with go_service(short) as found:
        yield found


def byte(pid: int, at: int) -> bytes:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        return os.pread(memory.fileno(), 1, at)


@pytest.mark.parametrize("seen", ["seen", "unseen"])
async def test_a_thread_is_sent_back_to_before_its_trap(running: GoService, seen: str) -> None:
    at = running.address("main.never")
    points = {at: byte(running.pid, at)}
    debugger = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", DEBUGGER, str(running.pid), str(at), seen),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert debugger.stdout
    assert await debugger.stdout.readline() == b"armed\n"
    request = running.begin(running.get("/never"))
    assert await debugger.stdout.readline() == b"trapped\n"
    stragglers.hold(running.pid)
    rescue.restore(Who(running.pid, running.process.start_time), points)
    debugger.kill()
    await debugger.wait()
    stragglers.send_back(running.pid, points, points.keys(), debugger.pid)
    assert stopped(running.pid)
    os.kill(running.pid, signal.SIGCONT)
    assert await request == "2"
    await running.is_free()


@pytest.mark.parametrize("sender", ["the debugger", "somebody else"])
async def test_the_signal_that_halted_the_process_is_taken_back(running: GoService, sender: str) -> None:
    stragglers.hold(running.pid)
    await until(lambda: stopped(running.pid))
    os.kill(running.pid, signal.SIGTRAP)
    ours = sender == "the debugger"
    stragglers.send_back(running.pid, {}, (), os.getpid() if ours else 1)
    os.kill(running.pid, signal.SIGCONT)
    if ours:
        await running.is_free()
    else:
        assert await asyncio.to_thread(running.child.wait, 30) == 2


async def test_a_successor_goes_on_with_a_process_that_is_stopped(running: GoService) -> None:
    target = Who.of(running.pid)
    assert target
    gone = Who(os.getpid(), 1)
    notes = Notes(target=target, guard=gone, stopped=False, server=gone)
    notes.save(running.place / NOTES)
    stragglers.hold(running.pid)
    await until(lambda: stopped(running.pid))
    os.kill(running.pid, signal.SIGTRAP)  # as delve halts it
    await Delve().recover(running.place)
    assert not (running.place / NOTES).exists()
    await running.is_free()


def test_a_process_that_is_gone_has_no_threads() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
        stragglers.hold(child.pid)
        stragglers.send_back(child.pid, {0: TRAP}, {0}, 0)

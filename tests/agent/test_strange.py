"""Programs that do what no Go program does (`strange.c`), in the hands of the guard beside delve. Real signals."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import stragglers
from agent.delve_start import UNIX
from agent.guarded import NOTES
from agent.machines.x86_64 import Registers
from agent.ptrace import SIGINFO, Halted
from agent.rescue import ORDERLY, tracer
from agent.summons import summons
from agent.taskstat import STATE, fields, stopped
from tests.agent.goservice import ROOT
from tests.agent.native import until

pytestmark = pytest.mark.skipif(not stragglers.KNOWN, reason="what a signal's frame looks like is not known here")

USER_TIME = 11
"""Place of the clock ticks in which a program ran, in a stat file's fields."""
DELVE = f"""#!{sys.executable}
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from agent.ptrace import SEIZE, _ptrace
_ptrace(SEIZE, int(sys.argv[2]))
print("listening at", flush=True)
open(os.path.dirname(__file__) + "/leave").read()
"""
"""One that has nothing to do in the process, and leaves in good order when somebody opens and closes its `leave`."""


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("strange") / "strange"
    subprocess.run(["gcc", "-o", program, Path(__file__).with_name("strange.c")], check=True)
    return program


@contextmanager
def running(*words: str | Path) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout
            assert child.stdout.readline() == b"ready\n"
            yield child
        finally:
            child.kill()


def state(pid: int) -> str:
    return fields(f"/proc/{pid}/stat")[STATE]


async def test_signals_without_end_do_not_keep_the_guard(strange: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, begun = stragglers._waits, time.monotonic()

    # Nobody else could be so fast each time.
    def another(pid: int, thread: int) -> bool:
        os.kill(pid, signal.SIGTRAP)
        assert time.monotonic() < begun + 20, "it goes on for ever"
        return looks(pid, thread)

    monkeypatch.setattr(stragglers, "_waits", another)
    with running(strange, "calm") as target:
        stragglers.hold(target.pid)
        stragglers.send_back(target.pid, {}, (), os.getpid())
        await until(lambda: stopped(target.pid))
        assert not tracer(target.pid)
        os.kill(target.pid, signal.SIGCONT)
        await until(lambda: state(target.pid) == "S")


@pytest.mark.parametrize("where", ["edge", "nowhere"])
async def test_a_stack_that_cannot_be_read_is_left_alone(strange: Path, where: str) -> None:
    with running(strange, where) as target:
        await until(lambda: int(fields(f"/proc/{target.pid}/stat")[USER_TIME]) > 1)  # nothing but its loop takes any
        stragglers.hold(target.pid)
        stragglers.send_back(target.pid, {}, (), 1)
        await until(lambda: stopped(target.pid))
        with Halted(target.pid, Registers) as halted, pytest.raises(OSError, match="cannot be read"):
            halted.read(halted.registers().rsi, SIGINFO)
        with Halted(target.pid, Registers) as halted, pytest.raises(OSError, match="cannot be written"):
            halted.write(halted.registers().rsi, bytes(SIGINFO))
        os.kill(target.pid, signal.SIGCONT)
        await until(lambda: state(target.pid) == "R")


@pytest.mark.parametrize("before", ["away", "stopped"])
async def test_a_process_is_after_an_orderly_leave_as_it_was_before(strange: Path, short: Path, before: str) -> None:
    delve, notes = short / "dlv", short / NOTES
    delve.write_text(DELVE)
    delve.chmod(0o755)
    os.mkfifo(short / "leave")
    with running(strange, "away" if before == "away" else "calm") as target:
        if before == "stopped":
            target.send_signal(signal.SIGSTOP)
        await until(lambda: state(target.pid) == ("D" if before == "away" else "T"))
        ours, theirs = socket.socketpair()
        guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from agent.delve_start import main; main()"),
            cwd=ROOT,
            stdin=theirs.fileno(),
            stderr=subprocess.PIPE,
        )
        with ours, theirs:
            ours.sendall(summons([str(target.pid), str(notes), str(delve), UNIX, "[]"]))
            assert guard.stderr
            assert (await guard.stderr.readline()).startswith(b"attached")
            (short / "leave").write_text("")
            assert await asyncio.wait_for(guard.wait(), 20) == ORDERLY
        assert not notes.exists()
        if before == "away":
            # All this time it could not be stopped.
            assert target.stdin
            target.stdin.close()
            await until(lambda: state(target.pid) == "S")
        else:
            assert stopped(target.pid)

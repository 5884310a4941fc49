"""Numbers that mean another process by now, or a thread: whoever waits for that one to end would free nobody."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent import rescue
from agent.debuggers import Target
from agent.debuggers.gdb import GdbServer
from agent.process import Process
from agent.rescue import Notes, Who
from agent.taskstat import stopped
from squash.errors import SquashError
from squash.reasons import Reason
from tests.eventually import eventually


@pytest.fixture
def thread() -> Iterator[int]:
    """The number of a thread of ours."""
    over = threading.Event()
    running = threading.Thread(target=over.wait)
    running.start()
    assert running.native_id
    yield running.native_id
    over.set()
    running.join()


@pytest.fixture
def child() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as running:
        yield running.pid
        running.kill()


def who(pid: int) -> Who:
    found = Who.of(pid)
    assert found
    return found


def test_a_thread_with_the_number_of_the_debugger_holds_up_no_rescue(thread: int, child: int) -> None:
    os.kill(child, signal.SIGSTOP)
    assert eventually(lambda: stopped(child))
    assert rescue.rescue(Notes(who(child), who(os.getpid()), stopped=False, server=Who(thread, 1)))
    assert not stopped(child)


def test_a_thread_is_no_process_to_wait_for(thread: int) -> None:
    assert rescue.reap(thread, 1.0)


def test_a_stranger_with_the_number_of_the_debugger_is_not_waited_for(child: int) -> None:
    notes = Notes(who(os.getpid()), who(os.getpid()), stopped=False, server=Who(child, 1))
    work = threading.Thread(target=rescue.rescue, args=(notes, 20.0), daemon=True)
    work.start()
    work.join(10)
    assert not work.is_alive()
    assert who(child)


async def test_a_thread_with_the_number_of_the_process_is_another(thread: int, tmp_path: Path) -> None:
    found = Process.read(os.getpid())
    assert found
    with pytest.raises(SquashError) as caught:
        GdbServer(Target(replace(found, pid=thread), tmp_path), "gdbserver")
    assert caught.value.reason is Reason.PROCESS_GONE

"""Signals to processes that may be somebody else by then."""

import os
import signal
import subprocess
import threading
from dataclasses import replace

import pytest

from agent import signals
from agent.process import Process
from squash.errors import SquashError
from squash.reasons import Reason


def nothing() -> None:
    pass


def test_who_has_the_number_now_is_left_alone() -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        process = Process.read(sleeper.pid)
        assert process
        earlier = replace(process, start_time=process.start_time - 1)
        with pytest.raises(SquashError, match="is gone") as refusal:
            signals.send(earlier, signal.SIGTERM, nothing)
        assert refusal.value.reason is Reason.PROCESS_GONE
        assert sleeper.poll() is None

        def refuse() -> None:
            raise SquashError(Reason.DEBUGGER_UNSUITED, "it would die")

        with pytest.raises(SquashError, match="it would die"):
            signals.send(process, signal.SIGTERM, refuse)
        assert sleeper.poll() is None
        signals.send(process, signal.SIGTERM, nothing)
        assert sleeper.wait(20) == -signal.SIGTERM
        with pytest.raises(SquashError, match="is gone"):
            signals.send(process, signal.SIGTERM, nothing)
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_thread_that_has_the_number_now_is_left_alone() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        process = Process.read(os.getpid())
        assert process
        assert thread.native_id
        with pytest.raises(SquashError, match="is gone") as refusal:
            signals.send(replace(process, pid=thread.native_id), signal.SIGTERM, nothing)
        assert refusal.value.reason is Reason.PROCESS_GONE
    finally:
        over.set()
        thread.join()


def test_it_ends_between_the_check_and_the_signal() -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    process = Process.read(sleeper.pid)
    assert process

    def end() -> None:
        os.kill(sleeper.pid, signal.SIGKILL)
        sleeper.wait()

    with pytest.raises(SquashError, match="is gone"):
        signals.send(process, signal.SIGTERM, end)

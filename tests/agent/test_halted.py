"""A thread that is looked at while the whole process is stopped, and that somebody lets run just then."""

import itertools
import os
import signal
import subprocess
import sys

import pytest

from agent import stragglers
from agent.rescue import tracer
from agent.taskstat import STATE, fields
from tests.eventually import eventually

pytestmark = pytest.mark.skipif(not stragglers.KNOWN, reason="what a signal's frame looks like is not known here")
CALM = "import signal; print(flush=True); signal.pause()"


def state(pid: int) -> str:
    return fields(f"/proc/{pid}/stat")[STATE]


def test_who_is_let_run_in_the_moment_before_it_is_traced_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    genuine, looks = stragglers._state, itertools.count()

    def look(pid: int, thread: int) -> str:
        found = genuine(pid, thread)
        if next(looks) == 1:
            os.kill(pid, signal.SIGCONT)
        return found

    with subprocess.Popen([sys.executable, "-c", CALM], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout
            assert child.stdout.readline()
            assert eventually(lambda: state(child.pid) == "S")
            stragglers.hold(child.pid)
            monkeypatch.setattr(stragglers, "_state", look)
            stragglers.send_back(child.pid, {}, (), os.getpid())
            assert next(looks) == 2
            assert not tracer(child.pid)
            assert eventually(lambda: state(child.pid) == "S")
        finally:
            child.kill()

"""What debugpy refuses, and that it says why."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.debuggers.debugpy import Debugpy
from agent.process import Process
from squash.errors import SquashError
from squash.reasons import Reason

from .targets import debuggee, target

pytestmark = pytest.mark.usefixtures("quiet")


async def test_a_process_that_is_traced_already_is_refused_by_name(short: Path) -> None:
    with debuggee() as service:
        code = f"import agent.ptrace as p, sys; p._ptrace(p.SEIZE, {service.pid})\n"
        code += "print('on', flush=True); sys.stdin.read()"
        tracer = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert tracer.stdout
        with tracer:
            assert tracer.stdout.readline() == "on\n"
            with pytest.raises(SquashError, match=f"traced by process {tracer.pid}") as refusal:
                await Debugpy().attach(target(service.facts(), short))
            assert refusal.value.reason is Reason.TRACED_BY_OTHER
            tracer.communicate("")


async def test_what_is_no_python_is_refused(short: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        process = Process.read(sleeper.pid)
        assert process
        assert Debugpy().claim(process) < 0
        with pytest.raises(SquashError, match="no CPython") as refusal:
            await Debugpy().attach(target(process, short))
        assert refusal.value.reason is Reason.DEBUGGER_UNSUITED
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
async def test_a_user_who_cannot_reach_the_files_is_told_which(short: Path) -> None:
    """mkdtemp makes directories of the caller alone, so another user cannot reach the socket in it."""
    sleeper = subprocess.Popen(
        ["/usr/bin/env", "python3", "-c", "import time; print('up', flush=True); time.sleep(1000)"],
        user=65534,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
    )
    try:
        assert sleeper.stdout
        assert sleeper.stdout.readline() == "up\n"
        process = Process.read(sleeper.pid)
        assert process
        with pytest.raises(SquashError, match=f"of user 65534 cannot reach '{short}'") as refusal:
            await Debugpy().attach(target(process, short))
        assert refusal.value.reason is Reason.FILES_UNREADABLE
    finally:
        sleeper.kill()
        sleeper.communicate()

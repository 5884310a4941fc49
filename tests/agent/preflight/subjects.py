"""Real processes in the states that a preflight must see, and agents that lack something."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from agent.process import Process
from demo.world import BIN

UP = "import sys, time; print('up', flush=True); time.sleep(1000)"
_BPF = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
def filter(refused):
    rows = [(0x20, 0, 0, 0)]  # load the number of the system call
    for number in refused:
        rows += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050001)]  # if it is this one: EPERM
    rows += [(0x06, 0, 0, 0x7FFF0000)]  # else: allowed
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *row) for row in rows))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(rows), ctypes.addressof(code)))
    assert libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert libc.prctl(22, 2, program) == 0  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
"""
FILTERED = f"{_BPF}\nfilter([])\n{UP}"
"""A process with a filter that lets everything through."""
_UNDER_FILTER = f"{_BPF}\nfilter([int(sys.argv[1])])\nos.execvp(sys.argv[2], sys.argv[2:])"
PTRACE = 101
"""x86-64."""
_TRACER = """
import ctypes, sys
libc = ctypes.CDLL(None)
assert libc.ptrace(0x4206, int(sys.argv[1]), None, None) == 0  # PTRACE_SEIZE
print("up", flush=True)
sys.stdin.read()
"""
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


def python(code: str = UP) -> list[str]:
    return [sys.executable, "-S", "-c", code]


@contextmanager
def running(argv: Sequence[str]) -> Iterator[Process]:
    """A process that says `up` when it is what it is to be."""
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        assert child.stdout.readline() == "up\n"
        found = Process.read(child.pid)
        assert found
        yield found
        assert child.poll() is None
    finally:
        child.kill()
        child.communicate()


@contextmanager
def traced(process: Process) -> Iterator[int]:
    """The pid of who traces it meanwhile."""
    with running([sys.executable, "-c", _TRACER, str(process.pid)]) as tracer:
        yield tracer.pid


def doctor(*arguments: str, by: Sequence[str] = ()) -> tuple[int, dict[str, Any]]:
    """Exit status and document of `squash-agent doctor`, started by way of `by`."""
    argv = [*by, str(BIN / "squash-agent"), "doctor", "--json", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def under_filter(number: int) -> list[str]:
    """What starts a program under a filter that refuses a system call."""
    return [*python(_UNDER_FILTER), str(number)]


def lacking(*capabilities: str) -> list[str]:
    """What starts a program as root without some capabilities."""
    return ["setpriv", "--inh-caps=-all", "--bounding-set", ",".join(f"-{each}" for each in capabilities)]


def trouble(findings: list[dict[str, str]]) -> dict[str, dict[str, str]]:
    """The findings that are not ok, by what was looked at."""
    return {each["check"]: each for each in findings if each["level"] != "ok"}


def may_unshare(*options: str) -> bool:
    return subprocess.run(["unshare", *options, "true"], capture_output=True, check=False).returncode == 0


ROOT = os.geteuid() == 0

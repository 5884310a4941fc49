"""A file that a process runs is on a machine that does not answer any more: a guard takes its leave all the same."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import traps
from agent.rescue import tracer
from agent.taskstat import STATE, fields
from agent.traps import TRAP
from tests.agent.goservice import ROOT
from tests.agent.test_traps import FILE, MAPPED
from tests.slowness import SLOWNESS

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="takes root and FUSE"
)
GUARD = f"""if True:
    import sys
    sys.path.insert(0, {str(ROOT)!r})
    import agent.parting, os, pathlib
    from agent.rescue import Notes, Who
    agent.parting.LOOK = 0.5
    notes = Notes(Who.of(int(sys.argv[1])), Who.of(os.getpid()), stopped=False)
    parting = agent.parting.Parting(notes, pathlib.Path(sys.argv[2]))
    parting.disarm()
    print(parting.settle(2.0), flush=True)
"""


@pytest.fixture
def silent(short: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A file system with a file `library`; it stops answering at the end of its standard input."""
    (short / "mounted").mkdir()
    (short / "library").write_bytes(FILE)
    program = Path(__file__).with_name("silent.py")
    argv = ["unshare", "--mount", sys.executable, str(program), str(short / "mounted"), str(short / "library")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout
            assert running.stdout.readline() == b"up\n"
            yield running
        finally:
            running.kill()


@pytest.fixture
def pid(silent: "subprocess.Popen[bytes]", short: Path) -> Iterator[int]:
    """A process that runs that file, full of breakpoints."""
    inside = ["nsenter", f"--mount=/proc/{silent.pid}/ns/mnt"]
    argv = [*inside, sys.executable, "-c", MAPPED, str(short / "mounted/library")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline()
        child.stdin.write(TRAP.hex().encode() + b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"\n"
        yield child.pid
        silent.kill()  # it would wait, too


def test_a_guard_ends_where_a_file_system_does_not_answer(
    silent: "subprocess.Popen[bytes]", pid: int, short: Path
) -> None:
    assert len(traps.find(pid)) == len(FILE) // len(TRAP)
    assert silent.stdin
    assert silent.stdout
    silent.stdin.close()
    assert silent.stdout.readline() == b"silent\n"
    argv = [sys.executable, "-I", "-S", "-c", GUARD, str(pid), str(short / "guard.json")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as guard:
        try:
            said, _ = guard.communicate(timeout=20 * SLOWNESS)
            assert (guard.returncode, said) == (0, b"True\n")
        finally:
            silent.kill()  # lets whoever waits go
    assert not tracer(pid)
    assert fields(f"/proc/{pid}/stat")[STATE] == "S"

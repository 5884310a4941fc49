"""What stood where a breakpoint is: read from the file that is mapped, and from no other that has its name by now."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import traps
from agent.parting import Parting
from agent.rescue import Notes, Who
from agent.traps import PAGE, TRAP
from tests.agent.test_full_disk import full

MAPPED = """if True:
    import mmap, os, sys
    file = os.open(sys.argv[1], os.O_RDONLY)
    rights = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    code = mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE, prot=rights)
    code[:] = bytes.fromhex(sys.argv[2]) * (len(code) * 2 // len(sys.argv[2]))
    print(flush=True)
    sys.stdin.read()
"""
FILE, OTHER = b"\x90" * PAGE, b"\x42" * PAGE


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "library"
    path.write_bytes(FILE)
    return path


@pytest.fixture
def pid(library: Path) -> Iterator[int]:
    """A process with that file as code, which is full of breakpoints."""
    argv = [sys.executable, "-c", MAPPED, str(library), TRAP.hex()]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline()
        yield child.pid


def test_what_stood_there_is_found(pid: int) -> None:
    found = traps.find(pid)
    assert len(found) == PAGE // len(TRAP)
    assert set(found.values()) == {FILE[: len(TRAP)]}


def test_a_link_leads_nowhere(pid: int, library: Path, tmp_path: Path) -> None:
    """It would be followed from the agent's own root."""
    secret = tmp_path / "secret"
    secret.write_bytes(OTHER)
    library.unlink()
    (tmp_path / "library (deleted)").symlink_to(secret)
    assert traps.find(pid) == {}


def test_another_file_of_that_name_is_not_taken_for_it(pid: int, library: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(OTHER)
    library.unlink()
    (tmp_path / "other").rename(tmp_path / "library (deleted)")
    assert traps.find(pid) == {}


def test_a_pipe_of_that_name_is_not_waited_for(pid: int, library: Path, tmp_path: Path) -> None:
    library.unlink()
    os.mkfifo(tmp_path / "library (deleted)")
    code = "import sys; from agent import traps; print(traps.find(int(sys.argv[1])))"
    argv = [sys.executable, "-c", code, str(pid)]
    assert subprocess.run(argv, check=True, capture_output=True, text=True, timeout=20).stdout.strip() == "{}"


def test_code_is_put_right_also_where_that_cannot_be_noted(pid: int, tmp_path: Path) -> None:
    target, guard = Who.of(pid), Who.of(os.getpid())
    assert target
    assert guard
    with full():
        assert Parting(Notes(target, guard, stopped=False), tmp_path / "guard.json").disarm()
    assert traps.find(pid) == {}

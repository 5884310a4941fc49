"""What stood where a breakpoint is: read from the file that is mapped, and from no other that has its name by now."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from agent import pieces, traps
from agent.parting import Parting
from agent.rescue import Notes, Who
from agent.traps import PAGE, TRAP
from agent.within import within
from tests.agent.test_full_disk import full

MAPPED = """if True:
    import mmap, os, sys
    file = os.open(sys.argv[1], os.O_RDONLY)
    rights = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    code = mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE, prot=rights)
    os.close(file)
    print(code[0], flush=True)
    while order := sys.stdin.readline():
        trap = bytes.fromhex(order)
        code[:] = trap * (len(code) // len(trap))
        print(flush=True)
"""
FILE, OTHER = b"\x90" * PAGE, b"\x42" * PAGE


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "library"
    path.write_bytes(FILE)
    return path


@pytest.fixture
def clean(library: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process with that file as code, to which nobody has written."""
    argv = [sys.executable, "-c", MAPPED, str(library)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stdout.readline()
        yield child


@pytest.fixture
def pid(clean: "subprocess.Popen[bytes]") -> int:
    """It is full of breakpoints."""
    assert clean.stdin
    assert clean.stdout
    clean.stdin.write(TRAP.hex().encode() + b"\n")
    clean.stdin.flush()
    assert clean.stdout.readline() == b"\n"
    return clean.pid


@pytest.fixture
def unanswered(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set once somebody has asked for that file, as of a machine that does not answer, and waits."""
    genuine, asked, over = pieces.opened, threading.Event(), threading.Event()

    def opened(path: Path) -> AbstractContextManager[int]:
        if path.name == library.name:
            asked.set()
            over.wait()
        return genuine(path)

    monkeypatch.setattr(pieces, "opened", opened)
    yield asked
    over.set()


def parting(pid: int, place: Path, originals: dict[int, bytes]) -> Parting:
    target, guard = Who.of(pid), Who.of(os.getpid())
    assert target
    assert guard
    return Parting(Notes(target, guard, stopped=False, originals=originals), place / "guard.json")


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
    with full():
        assert parting(pid, tmp_path, {}).disarm()
    assert traps.find(pid) == {}


def test_a_file_that_nobody_wrote_to_is_not_looked_at(
    clean: "subprocess.Popen[bytes]", unanswered: threading.Event
) -> None:
    assert traps.find_within(clean.pid, 60) == ({}, True)
    assert not unanswered.is_set()


def test_a_file_that_does_not_answer_is_not_waited_for(
    pid: int, unanswered: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was known of its breakpoints is put right all the same."""
    monkeypatch.setattr("agent.parting.LOOK", 0.3)
    start = next(code.start for code in traps._code(pid) if code.file.name == "library")
    known = {start + 8: FILE[: len(TRAP)], start + 64: FILE[: len(TRAP)]}
    leaving = parting(pid, tmp_path, known)
    done = threading.Thread(target=leaving.disarm, daemon=True)
    done.start()
    done.join(20)
    assert not done.is_alive()
    assert unanswered.is_set()
    assert leaving.restored
    unanswered.clear()
    assert traps.standing(pid, known) == {}
    assert traps.standing(pid, {start: FILE[: len(TRAP)]})
    assert not leaving.disarm(), "it is not asked again"
    assert not unanswered.is_set()


def test_work_that_ends_has_ended() -> None:
    done = []
    assert within(60, lambda: done.append(1))
    assert done

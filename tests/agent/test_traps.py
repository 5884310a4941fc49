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
from agent.within import WHOLE, _apart, within
from tests.agent.test_full_disk import full
from tests.eventually import eventually

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
def never() -> Iterator[threading.Event]:
    """What does not come about in this test."""
    found = threading.Event()
    before = len(os.listdir("/proc/self/task"))
    yield found
    found.set()
    assert eventually(lambda: len(os.listdir("/proc/self/task")) <= before)


@pytest.fixture
def asked(library: Path, monkeypatch: pytest.MonkeyPatch, never: threading.Event) -> Path:
    """Is there once somebody has asked for that file, as of a machine that does not answer, and waits."""
    genuine, place = pieces.opened, library.with_name("asked")

    def opened(path: Path) -> AbstractContextManager[int]:
        if path.name == library.name:
            place.touch()
            never.wait()
        return genuine(path)

    monkeypatch.setattr(pieces, "opened", opened)
    return place


@pytest.fixture(params=["apart", "beside"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """In which work is done that may never return: beside are threads, where there are others already."""
    over = threading.Event()
    other = threading.Thread(target=over.wait)
    if request.param == "beside":
        other.start()
    yield request.param
    over.set()
    if other.ident:
        other.join()


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


@pytest.mark.usefixtures("way")
def test_a_file_that_nobody_wrote_to_is_not_looked_at(clean: "subprocess.Popen[bytes]", asked: Path) -> None:
    assert traps.find_within(clean.pid, 60, {}) == ({}, True)
    assert not asked.exists()


@pytest.mark.usefixtures("way")
def test_what_is_found_in_time_is_all(pid: int) -> None:
    known: traps.Pages = {}
    assert traps.find_within(pid, 60, known) == (traps.find(pid), True)
    assert FILE in known.values()


def test_a_file_is_asked_once(pid: int, asked: Path) -> None:
    code = next(code for code in traps._code(pid) if code.file.name == "library")
    assert len(traps.find_within(pid, 60, {(code.file, code.inode, 0): FILE})[0]) == PAGE // len(TRAP)
    assert not asked.exists()


@pytest.mark.usefixtures("way")
def test_where_all_pages_may_have_been_written_to_whole_files_are_compared(
    pid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traps, "MANY", 0)
    assert traps.find_within(pid, 60, {}) == (traps.find(pid), True)


@pytest.mark.usefixtures("way")
def test_a_file_that_does_not_answer_is_not_waited_for(
    pid: int, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was known of its breakpoints is put right all the same."""
    monkeypatch.setattr("agent.parting.LOOK", 0.3)
    start = next(code.start for code in traps._code(pid) if code.file.name == "library")
    known = {start + 8: FILE[: len(TRAP)], start + 64: FILE[: len(TRAP)]}
    leaving = parting(pid, tmp_path, known)
    assert leaving.disarm()
    assert asked.exists()
    assert leaving.restored
    asked.unlink()
    assert traps.standing(pid, known) == {}
    assert traps.standing(pid, {start: FILE[: len(TRAP)]})
    assert not leaving.disarm()
    assert not asked.exists(), "it was asked again"


@pytest.mark.usefixtures("way")
def test_of_work_that_does_not_end_there_is_what_it_has_said(never: threading.Event) -> None:
    def work() -> Iterator[str]:
        yield "one"
        yield "two"
        never.wait()

    assert within(0.5, work) == (["one", "two"], False)
    assert within(60, lambda: ["one"]) == (["one"], True)
    assert within(60, list) == ([], True)
    assert _apart(60, lambda: ["one"]) == ["one", WHOLE]


def test_work_that_fails_is_not_whole() -> None:
    def work() -> Iterator[str]:
        yield "one"
        raise LookupError

    assert _apart(60, work) == ["one"]

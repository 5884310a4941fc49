"""What real executables say of themselves."""

import subprocess
from pathlib import Path

import pytest

from agent.elf import NotElfError
from agent.program import Program

SOURCE = "int add(int a, int b) { return a + b; }\nint main(void) { return add(0, 0); }\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("programs")
    (found / "a.cc").write_text(SOURCE)
    return found


def build(place: Path, name: str, *options: str) -> Program:
    subprocess.run(["g++", *options, "-o", place / name, place / "a.cc"], check=True)
    return Program.read(place / name)


def test_debug_information(place: Path) -> None:
    found = build(place, "debug", "-g", "-O0", "-Wl,--build-id=0x0123abcd")
    assert found.symbols
    assert found.debug
    assert found.optimised is False
    assert found.build_id == "0123abcd"
    assert not found.go


@pytest.mark.parametrize("option", ["-O", "-O1", "-O2", "-O3", "-Os", "-Ofast"])
def test_optimised(place: Path, option: str) -> None:
    assert build(place, "fast", "-g", option).optimised is True


def test_without_debug_information(place: Path) -> None:
    found = build(place, "plain")
    assert (found.symbols, found.debug, found.optimised) == (True, False, None)


def test_stripped(place: Path) -> None:
    found = build(place, "stripped", "-g", "-s", "-Wl,--build-id=none")
    assert (found.symbols, found.debug, found.optimised, found.build_id) == (False, False, None, "")


def test_compressed_debug_information_says_nothing_of_the_compiler(place: Path) -> None:
    found = build(place, "packed", "-g", "-gz=zlib", "-O2")
    assert found.debug


def test_machine_is_that_of_this_machine() -> None:
    uname = subprocess.run(["uname", "-m"], check=True, capture_output=True, text=True).stdout.strip()
    assert Program.read(Path("/proc/self/exe")).machine == uname


def test_other_machines_by_their_headers(tmp_path: Path) -> None:
    """A header alone, of 32 bits and of 64, without sections."""
    for bits, number, name in ((1, 3, "i386"), (1, 40, "arm"), (2, 183, "aarch64"), (2, 999, "machine 999")):
        head = b"\x7fELF" + bytes([bits, 1, 1]) + bytes(9) + (2).to_bytes(2, "little") + number.to_bytes(2, "little")
        (tmp_path / name).write_bytes(head + bytes(64))
        found = Program.read(tmp_path / name)
        assert (found.machine, found.symbols, found.debug) == (name, False, False)


@pytest.mark.parametrize(
    "content", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x02" + bytes(60), b"\x7fELF\x02\x01" + bytes(10)]
)
def test_what_is_no_executable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(NotElfError):
        Program.read(tmp_path / "x")


def test_what_is_damaged(tmp_path: Path, place: Path) -> None:
    """Cut anywhere, it is refused or says less; it never trips."""
    build(place, "whole", "-g")
    whole = (place / "whole").read_bytes()
    for size in range(0, len(whole), 499):
        (tmp_path / "cut").write_bytes(whole[:size])
        try:
            Program.read(tmp_path / "cut")
        except NotElfError:
            continue

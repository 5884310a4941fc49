"""Files of a container that mean ill: as large as no memory, without an end, or cut short while they are read."""

import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from agent import pieces
from agent.elf import NotElfError, dynamic_symbols, opened, slack
from agent.gobinary import GoProgram
from agent.libc import _versions_in
from agent.program import Program

TERABYTE = 1 << 40
DYNSYM, STRTAB, PROGBITS, NOTE = 11, 3, 1, 7
SECTION = struct.Struct("<IIQQQQIIQQ")
LABELS = b"\0.dynsym\0.dynstr\0.debug_str\0.note\0.go.buildinfo\0.names\0"


def label(name: bytes) -> int:
    return LABELS.index(b"\0" + name + b"\0") + 1


def vast(path: Path, size: int = TERABYTE) -> Path:
    """An ELF file all of whose sections fill it, and most of it is a hole."""
    kinds = ((b".dynsym", DYNSYM), (b".dynstr", STRTAB), (b".debug_str", PROGBITS), (b".note", NOTE))
    rows = [(label(b".names"), STRTAB, 0, 0, 64, len(LABELS), 0, 0, 1, 0)]
    rows += [(label(name), kind, 0, 0, 4096, size, 2, 0, 1, 0) for name, kind in kinds]
    rows += [(label(b".go.buildinfo"), PROGBITS, 0, 0, 4096, size, 0, 0, 1, 0)]
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<HH", head, 16, 3, 62)
    struct.pack_into("<Q", head, 40, 1024)
    struct.pack_into("<HHH", head, 58, 64, len(rows), 0)
    path.write_bytes((bytes(head) + LABELS).ljust(1024, b"\0") + b"".join(SECTION.pack(*row) for row in rows))
    os.truncate(path, size)
    return path


def apart(code: str, *words: object) -> str:
    """What a program of the agent's prints: one that hangs or dies takes nobody along."""
    argv = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


LOOKS = {
    "library": "from agent.libc import _versions_in; print(list(_versions_in(path)))",
    "program": "from agent.program import Program; print(Program.read(path).machine)",
    "symbols": "from agent.elf import dynamic_symbols; print(dynamic_symbols(path, frozenset({'a'})).addresses)",
}


@pytest.mark.parametrize(("look", "said"), [("library", "[]"), ("program", "x86_64"), ("symbols", "{}")])
def test_a_file_of_a_terabyte_is_looked_at_in_part(look: str, said: str, tmp_path: Path) -> None:
    code = f"import sys; from pathlib import Path; path = Path(sys.argv[1]); {LOOKS[look]}"
    assert apart(code, vast(tmp_path / "libc.so.6")) == said


SHRINKING = """if True:
    import os, sys, threading
    from pathlib import Path
    from agent.elf import NotElfError
    path = Path(sys.argv[1])
    over = threading.Event()
    def shrink():
        while not over.is_set():
            os.truncate(path, 8192)
            os.truncate(path, 8 << 20)
    thread = threading.Thread(target=shrink)
    thread.start()
    for turn in range(20):
        try:
            {look}
        except NotElfError:
            pass
    over.set()
    thread.join()
"""


@pytest.mark.parametrize("look", LOOKS)
def test_a_file_that_is_cut_short_meanwhile_kills_nobody(look: str, tmp_path: Path) -> None:
    apart(SHRINKING.replace("{look}", LOOKS[look]), vast(tmp_path / "libc.so.6", 8 << 20))


def test_options_that_are_named_without_end_are_read_once(tmp_path: Path) -> None:
    """What begins as the compiler's options do, again and again, and never ends."""
    path = vast(tmp_path / "program", 4 << 20)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"GNU " * (1 << 19))
    code = f"import sys; from pathlib import Path; path = Path(sys.argv[1]); {LOOKS['program']}"
    assert apart(code, path) == "x86_64"


@pytest.mark.parametrize("shift", range(-40, 1, 4))
def test_what_lies_across_two_pieces_is_found(shift: int, tmp_path: Path) -> None:
    at = pieces.PIECE + shift
    library = tmp_path / "libc.so.6"
    library.write_bytes(bytes(at) + b"stable release version 2.36.\n" + bytes(100))
    assert list(dict.fromkeys(_versions_in(library))) == ["2.36"]
    path = vast(tmp_path / "program", 4 << 20)
    with path.open("r+b") as file:
        file.seek(4096 + at)
        file.write(b"\0GNU C17 12.2.0 -mtune=generic -g -O0 -fPIC\0")
    assert Program.read(path).optimised is False


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "libc.so.6")
    with pytest.raises(OSError, match="no regular file"):
        list(_versions_in(tmp_path / "libc.so.6"))


@pytest.mark.parametrize("linked", ["library", "directory"])
def test_no_link_leads_out_of_a_container(linked: str, tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    library = tmp_path / "place" / "libc.so.6"
    library.write_bytes(b"stable release version 2.36.\n")
    (tmp_path / "link").symlink_to(library if linked == "library" else library.parent)
    path = tmp_path / "link" if linked == "library" else tmp_path / "link" / library.name
    root = f"/proc/{os.getpid()}/root"
    assert list(_versions_in(Path(f"{root}{library}"))) == ["2.36"]
    assert list(_versions_in(path)) == ["2.36"]
    with pytest.raises(OSError, match=r"no regular file|Not a directory"):
        list(_versions_in(Path(f"{root}{path}")))


def test_no_name_leads_upwards(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="downwards"):
        list(_versions_in(Path(f"/proc/{os.getpid()}/root{tmp_path}/../libc.so.6")))


def test_what_is_no_regular_file_is_not_even_opened(tmp_path: Path) -> None:
    """To open a device may do something. A socket cannot be opened, which would be said."""
    with socket.socket(socket.AF_UNIX) as device:
        device.bind(str(tmp_path / "libc.so.6"))
        with pytest.raises(OSError, match="no regular file"):
            list(_versions_in(tmp_path / "libc.so.6"))


def test_there_is_nothing_where_no_file_can_be_that_long(tmp_path: Path) -> None:
    with pieces.opened(vast(tmp_path / "program", 8192)) as descriptor:
        assert pieces.read(descriptor, pieces.FURTHEST - 10, 100) == b""
        assert pieces.read(descriptor, pieces.FURTHEST, 1) == b""


@pytest.mark.parametrize("bits", [1, 2])
def test_what_is_not_of_64_bits_has_no_symbols_for_us(bits: int, tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(b"\x7fELF" + bytes([bits, 1]) + bytes(100))
    assert dynamic_symbols(path, frozenset({"a"})).addresses == {}
    assert slack(path) == []
    assert GoProgram.read(path) is None
    with opened(path) as elf:
        assert elf.wide is (bits == 2)


def test_a_section_beyond_all_files_is_damage(tmp_path: Path) -> None:
    path = vast(tmp_path / "program", 8192)
    with path.open("r+b") as file:
        file.seek(1024 + 4 * SECTION.size + 24)
        file.write(struct.pack("<Q", (1 << 64) - 1))
    with pytest.raises(NotElfError, match="damaged"):
        Program.read(path)

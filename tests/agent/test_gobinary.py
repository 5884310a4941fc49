"""Executables that are packed, cut short or made up: each process of a container is asked, and none may spoil it."""

import struct
from pathlib import Path

import pytest

from agent.gobinary import MAGIC, GoProgram

HUGE = (1 << 64) - 1
COMPRESSED = 0x800
INFO = MAGIC + bytes([8, 2]) + bytes(16) + b"\x08go1.26.8" + b"\x00"
UNIT = struct.pack("<IH", 100, 5)


def elf(info: bytes, dwarf: bytes, flags: int = 0, *, table: int = 0, names: int = 0, **places: int) -> bytes:
    """An ELF file with the two sections that are read; `table`, `names`, `info_at`, `dwarf_at` put things elsewhere."""
    labels = b"\0.shstrtab\0.go.buildinfo\0.debug_info\0"
    at = 64
    parts = [labels, info, dwarf]
    begins = [at, at + len(labels), at + len(labels) + len(info)]
    end = begins[-1] + len(dwarf)
    rows = [
        struct.pack("<IIQQQQIIQQ", 1, 3, 0, 0, names or begins[0], len(labels), 0, 0, 1, 0),
        struct.pack("<IIQQQQIIQQ", 11, 1, 0, 0, places.get("info_at", begins[1]), len(info), 0, 0, 1, 0),
        struct.pack("<IIQQQQIIQQ", 25, 1, flags, 0, places.get("dwarf_at", begins[2]), len(dwarf), 0, 0, 1, 0),
    ]
    head = bytearray(64)
    head[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<Q", head, 40, table or end)
    struct.pack_into("<HHH", head, 58, 64, len(rows), 0)
    return bytes(head) + b"".join(parts) + b"".join(rows)


def read(directory: Path, text: bytes) -> GoProgram | None:
    file = directory / "program"
    file.write_bytes(text)
    return GoProgram.read(file)


def test_one_that_is_whole(tmp_path: Path) -> None:
    assert read(tmp_path, elf(INFO, UNIT)) == GoProgram("go1.26.8", {}, 5)


@pytest.mark.parametrize(
    "text",
    [
        elf(INFO, UNIT, table=HUGE),
        elf(INFO, UNIT, names=HUGE),
        elf(INFO, UNIT, info_at=HUGE),
        elf(INFO, UNIT, dwarf_at=HUGE),
        elf(INFO, b"x", COMPRESSED),
        elf(INFO, b"", COMPRESSED, dwarf_at=HUGE)[:-60],
    ],
    ids=["table", "names", "info", "debug information", "short head", "cut off"],
)
def test_what_is_damaged_is_none(tmp_path: Path, text: bytes) -> None:
    assert read(tmp_path, text) is None

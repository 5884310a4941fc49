"""What an executable says of itself: the machine it is for, whether it has symbols, its build id (elf(5))."""

import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from agent.elf import NotElfError

_MACHINES = {3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64"}
_MACHINES |= {243: "riscv64", 258: "loongarch64"}
_SYMTAB, _NOTE, _NOBITS = 2, 7, 8
_COMPRESSED = 0x800
_GNU_BUILD_ID = 3
_OPTIMISED = re.compile(rb"GNU [^\0]* -O(?:[123sgz]|fast)?\b")
"""In the strings of the debug information: the options that GCC was given."""
_PLAIN = re.compile(rb"GNU [^\0]* -(?:g|O0)")


class _Section(NamedTuple):
    name: str
    kind: int
    flags: int
    offset: int
    size: int


@dataclass(frozen=True)
class Program:
    machine: str
    """As `uname -m` has it; `machine N` when it is an unknown one."""
    symbols: bool
    """It has a symbol table, so functions can be found by their names."""
    debug: bool
    """It has debug information, so lines and variables can be found."""
    optimised: bool | None
    """Its compiler moved things about; None when it does not say."""
    build_id: str
    """In hex digits; empty when it has none."""
    go: bool = False
    """Go's linker made it."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises NotElfError and OSError."""
        with path.open("rb") as file:
            try:
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise NotElfError(f"{path} is empty") from error
            with data:
                if data[:4] != b"\x7fELF" or data[4] not in (1, 2) or data[5] != 1:
                    raise NotElfError(f"{path} is no little-endian ELF file")
                try:
                    return cls._of(data)
                except (struct.error, IndexError) as error:
                    raise NotElfError(f"{path} is damaged: {error}") from error

    @classmethod
    def _of(cls, data: mmap.mmap) -> Self:
        (number,) = struct.unpack_from("<H", data, 18)
        sections = list(_sections(data))
        names = {section.name for section in sections}
        notes = [note for section in sections if section.kind == _NOTE for note in _notes(data, section)]
        build_id = next((value.hex() for owner, kind, value in notes if (owner, kind) == (b"GNU", _GNU_BUILD_ID)), "")
        return cls(
            machine=_MACHINES.get(number, f"machine {number}"),
            symbols=any(section.kind == _SYMTAB for section in sections),
            debug=bool(names & {".debug_info", ".zdebug_info"}),
            optimised=_optimised(data, sections),
            build_id=build_id,
            go=any(owner == b"Go" for owner, _, _ in notes) or ".go.buildinfo" in names,
        )


def _sections(data: mmap.mmap) -> Iterator[_Section]:
    wide = data[4] == 2
    (table,) = struct.unpack_from("<Q" if wide else "<I", data, 40 if wide else 32)
    size, count, names = struct.unpack_from("<HHH", data, 58 if wide else 46)
    raw = [_section(data, table + index * size, wide=wide) for index in range(count)] if table else []
    if not raw:
        return
    strings = raw[names][3]
    for name, kind, flags, offset, length in raw:
        end = data.find(b"\0", strings + name)
        yield _Section(data[strings + name : end].decode(errors="replace"), kind, flags, offset, length)


def _section(data: mmap.mmap, at: int, *, wide: bool) -> tuple[int, int, int, int, int]:
    """Name, kind, flags, offset and size."""
    if wide:
        name, kind, flags, _, offset, size = struct.unpack_from("<IIQQQQ", data, at)
    else:
        name, kind, flags, _, offset, size = struct.unpack_from("<IIIIII", data, at)
    return name, kind, flags, offset, size


def _notes(data: mmap.mmap, section: _Section) -> Iterator[tuple[bytes, int, bytes]]:
    """Owner, kind and content of each note."""
    at, end = section.offset, section.offset + section.size
    while at + 12 <= end:
        owner_size, size, kind = struct.unpack_from("<III", data, at)
        owner = data[at + 12 : at + 12 + owner_size].rstrip(b"\0")
        at += 12 + _aligned(owner_size)
        yield owner, kind, data[at : at + size]
        at += _aligned(size)


def _aligned(size: int) -> int:
    return (size + 3) & ~3


def _optimised(data: mmap.mmap, sections: list[_Section]) -> bool | None:
    """By the compiler's options, which GCC writes down with the debug information."""
    for section in sections:
        if section.name not in (".debug_str", ".debug_line_str") or section.flags & _COMPRESSED:
            continue
        if _OPTIMISED.search(data, section.offset, section.offset + section.size):
            return True
        if _PLAIN.search(data, section.offset, section.offset + section.size):
            return False
    return None

"""What an executable says of itself: the machine it is for, whether it has symbols, its build id (elf(5))."""

import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from agent.elf import NOTE, SYMTAB, Elf, Section, opened

_MACHINES = {3: "i386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "x86_64", 183: "aarch64"}
_MACHINES |= {243: "riscv64", 258: "loongarch64"}
_GNU_BUILD_ID = 3
_GNU = b"GNU "
_OPTIMISED = re.compile(rb" -O(?:[123sgz]|fast)?(?![^ ])")
"""In the strings of the debug information: the options that GCC was given."""
_PLAIN = re.compile(rb" -(?:g|O0)")
_MOST_NOTES, _LONGEST_NOTES = 100, 65_536
"""Sections of notes, and bytes of each."""
_LONGEST_STRINGS = 64 << 20
"""Bytes of the debug information's strings that are looked at."""
_LONGEST_OPTIONS = 4096
"""Bytes of a compiler's name and options."""


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
        with opened(path) as elf:
            notes = list(_notes(elf))
            names = elf.named
            ids = (value.hex() for owner, kind, value in notes if (owner, kind) == (b"GNU", _GNU_BUILD_ID))
            return cls(
                machine=_MACHINES.get(elf.machine, f"machine {elf.machine}"),
                symbols=any(section.kind == SYMTAB for section in elf.sections),
                debug=bool(names.keys() & {".debug_info", ".zdebug_info"}),
                optimised=_optimised(elf, names),
                build_id=next(ids, ""),
                go=any(owner == b"Go" for owner, _, _ in notes) or ".go.buildinfo" in names,
            )


def _notes(elf: Elf) -> Iterator[tuple[bytes, int, bytes]]:
    """Owner, kind and content of each note."""
    for section in [section for section in elf.sections if section.kind == NOTE][:_MOST_NOTES]:
        data, at = elf.content(section, _LONGEST_NOTES), 0
        while at + 12 <= len(data):
            owner_size, size, kind = struct.unpack_from("<III", data, at)
            owner = data[at + 12 : at + 12 + owner_size].rstrip(b"\0")
            at += 12 + _aligned(owner_size)
            yield owner, kind, data[at : at + size]
            at += _aligned(size)


def _aligned(size: int) -> int:
    return (size + 3) & ~3


def _optimised(elf: Elf, names: Mapping[str, Section]) -> bool | None:
    """By the compiler's options, which GCC writes down with the debug information: of its first words on them."""
    plain: bool | None = None
    for name in (".debug_str", ".debug_line_str"):
        section = names.get(name)
        if section is None or section.compressed:
            continue
        for options in _options(elf, section):
            if _OPTIMISED.search(options):
                return True
            if _PLAIN.search(options):
                plain = False
    return plain


def _options(elf: Elf, section: Section) -> Iterator[bytes]:
    """What stands after each `GNU `, up to the end of the string."""
    for data in elf.windows(section, _LONGEST_STRINGS, _LONGEST_OPTIONS):
        at = data.find(_GNU)
        while at >= 0:
            end = data.find(b"\0", at, at + _LONGEST_OPTIONS)
            if end < 0 and at + _LONGEST_OPTIONS > len(data):
                break  # whole in the next piece
            end = end if end >= 0 else at + _LONGEST_OPTIONS
            yield data[at:end]
            at = data.find(_GNU, end)

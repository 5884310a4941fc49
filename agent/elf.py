"""What an ELF file says of itself (System V ABI, elf(5)): little-endian ones, of 64 and of 32 bits.

The file may be anybody's. Of each part only so much is looked at as programs have of it, whatever the file claims.
Imports the standard library only: the injector runs without site-packages.
"""

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from agent import pieces

SYMTAB, NOTE, NOBITS, DYNSYM = 2, 7, 8, 11
_HEADS = {1: struct.Struct("<16sHHIIIIIHHHHHH"), 2: struct.Struct("<16sHHIQQQIHHHHHH")}
_SECTIONS = {1: struct.Struct("<10I"), 2: struct.Struct("<IIQQQQIIQQ")}
"""By the class of the file, EI_CLASS: 1 for 32 bits, 2 for 64."""
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_ET_DYN = 3
_PT_LOAD, _PF_X = 1, 1
_PAGE = os.sysconf("SC_PAGE_SIZE")
"""The kernel's: only whole ones can be mapped, 64 KB each on some machines."""
_COMPRESSED = 0x800
_MOST_SECTIONS = 10_000
_LONGEST_NAMES = 4 << 20
_LONGEST_NAME = 256
_LONGEST_SYMBOLS = 24 << 20
"""Bytes of a table of symbols, and of their names: a million symbols."""


class NotElfError(Exception):
    """Not an ELF file of a kind that can be read here."""


@dataclass(frozen=True)
class Symbols:
    relocatable: bool
    """True when the addresses count from where the file is mapped (shared objects, position-independent programs)."""
    addresses: dict[str, int]


@dataclass(frozen=True)
class Slack:
    """What is mapped behind the end of a file's program code, because only whole pages can be: nobody's bytes."""

    mapped_from: int
    """Offset in the file of the mapping."""
    begin: int
    """Bytes from the beginning of the mapping."""
    end: int


class Section(NamedTuple):
    """Where its contents lie in the file; `size` is 0 when they do not."""

    name: str
    kind: int
    offset: int
    size: int
    compressed: bool
    """The contents begin with an Elf64_Chdr."""
    link: int
    """The number of a section that goes with it, such as the names of symbols."""


class Elf:
    """An open file: its head and its table of sections are read, contents as they are asked for."""

    def __init__(self, descriptor: int) -> None:
        """Raises NotElfError and OSError."""
        self._descriptor = descriptor
        ident = self.read(0, 16)
        if ident[:4] != b"\x7fELF" or ident[4:6] not in (b"\1\1", b"\2\1"):
            raise NotElfError("no little-endian ELF file")
        self.wide = ident[4] == 2
        """Of 64 bits."""
        form = _HEADS[ident[4]]
        head = self.read(0, form.size)
        if len(head) < form.size:
            raise NotElfError("its head is cut off")
        _, self.kind, self.machine, _, _, self._programs, table, *_, size, number, section, count, names = form.unpack(
            head
        )
        self._program = size, number
        known = table and section == _SECTIONS[ident[4]].size and count <= _MOST_SECTIONS and names < count
        self.sections = self._read_sections(_SECTIONS[ident[4]], table, count, names) if known else ()

    @property
    def named(self) -> dict[str, Section]:
        """The sections by name."""
        return {section.name: section for section in self.sections}

    def read(self, offset: int, size: int) -> bytes:
        """Fewer bytes where the file has no more. Raises OSError."""
        if offset > pieces.FURTHEST:
            raise NotElfError("damaged: what it names cannot be in any file")
        return pieces.read(self._descriptor, offset, size)

    def content(self, section: Section, most: int) -> bytes:
        """Of its bytes the first `most`. Raises OSError."""
        return self.read(section.offset, min(section.size, most))

    def windows(self, section: Section, most: int, overlap: int) -> Iterator[bytes]:
        """Of its bytes the first `most`, piece by piece (`pieces.windows`). Raises OSError."""
        return pieces.windows(self._descriptor, section.offset, min(section.size, most), overlap)

    def symbols(self, wanted: frozenset[str]) -> Symbols:
        """Those that it defines for others. Raises NotElfError and OSError."""
        table = next((section for section in self.sections if section.kind == DYNSYM), None)
        found: dict[str, int] = {}
        if self.wide and table and table.link < len(self.sections):
            names = self.content(self.sections[table.link], _LONGEST_SYMBOLS)
            at = {names.find(b"\0" + name.encode() + b"\0") + 1: name for name in wanted}
            data = self.content(table, _LONGEST_SYMBOLS)
            for entry in _SYMBOL.iter_unpack(data[: len(data) - len(data) % _SYMBOL.size]):
                if entry[0] and entry[4] and entry[0] in at:
                    found[at[entry[0]]] = entry[4]
        return Symbols(self.kind == _ET_DYN, found)

    def slack(self) -> Iterator[Slack]:
        """Raises NotElfError and OSError."""
        size, number = self._program
        if not self.wide or size != _PROGRAM.size:
            return
        data = self.read(self._programs, size * number)
        if len(data) < size * number:
            raise NotElfError("its program headers are cut off")
        for kind, flags, offset, _, _, in_file, in_memory, _ in _PROGRAM.iter_unpack(data):
            if kind == _PT_LOAD and flags & _PF_X and in_file == in_memory:
                begin = offset % _PAGE + in_file
                yield Slack(offset - offset % _PAGE, begin, -(-begin // _PAGE) * _PAGE)

    def _read_sections(self, form: struct.Struct, table: int, count: int, names_at: int) -> tuple[Section, ...]:
        raw = self.read(table, form.size * count)
        if len(raw) < form.size * count:
            raise NotElfError("its section table is cut off")
        rows = list(form.iter_unpack(raw))
        names = self.read(rows[names_at][4], min(rows[names_at][5], _LONGEST_NAMES))
        found = []
        for name, kind, flags, _, offset, size, link, *_ in rows:
            text = names[name : name + _LONGEST_NAME].partition(b"\0")[0].decode(errors="replace")
            held = 0 if kind == NOBITS else size
            found.append(Section(text, kind, offset, held, bool(flags & _COMPRESSED), link))
        return tuple(found)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Elf]:
    """Raises NotElfError, which names the path, and OSError."""
    with pieces.opened(path) as descriptor:
        try:
            yield Elf(descriptor)
        except NotElfError as error:
            raise NotElfError(f"{path}: {error}") from error


def dynamic_symbols(path: Path, names: frozenset[str]) -> Symbols:
    """Those of `names` that the file defines. Raises NotElfError and OSError."""
    with opened(path) as elf:
        return elf.symbols(names)


def slack(path: Path) -> list[Slack]:
    """Raises NotElfError and OSError."""
    with opened(path) as elf:
        return list(elf.slack())

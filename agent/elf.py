"""What an ELF file says of itself (System V ABI, elf(5)), for 64-bit little-endian files.

Imports the standard library only: the injector runs without site-packages.
"""

import contextlib
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

_SECTION = struct.Struct("<IIQQQQIIQQ")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNSYM = 11
_ET_DYN = 3
_PT_LOAD, _PF_X = 1, 1
_PAGE = 4096
_NOBITS = 8
_COMPRESSED = 0x800
_MOST_SECTIONS = 10_000
_LONGEST_NAMES = 4 * 1024 * 1024


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


def dynamic_symbols(path: Path, names: frozenset[str]) -> Symbols:
    """Those of `names` that the file defines. Raises NotElfError and OSError."""
    with _open(path) as data:
        return _symbols(data, {name.encode(): name for name in names})


def slack(path: Path) -> list[Slack]:
    """Raises NotElfError and OSError."""
    with _open(path) as data:
        return list(_slack(data))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:
            raise NotElfError(f"{path} is empty") from error
        with data:
            if data[:6] != b"\x7fELF\x02\x01":
                raise NotElfError(f"{path} is no 64-bit little-endian ELF file")
            try:
                yield data
            except (struct.error, IndexError) as error:
                raise NotElfError(f"{path} is damaged: {error}") from error


class Section(NamedTuple):
    """Where its contents lie in the file; `size` is 0 when they do not."""

    offset: int
    size: int
    compressed: bool
    """The contents begin with an Elf64_Chdr."""


def sections(file: BinaryIO) -> dict[str, Section]:
    """By name; reads the headers only, however large the file. Raises NotElfError and OSError."""
    try:
        return _sections(file)
    except (struct.error, IndexError, ValueError, OverflowError) as error:
        raise NotElfError(f"its sections are damaged: {error}") from error


def _sections(file: BinaryIO) -> dict[str, Section]:
    head = file.read(64)
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        raise NotElfError("no 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", head, 40)
    size, count, names_at = struct.unpack_from("<HHH", head, 58)
    if not table or size != _SECTION.size or count > _MOST_SECTIONS or names_at >= count:
        return {}
    file.seek(table)
    raw = file.read(size * count)
    if len(raw) < size * count:
        raise NotElfError("its section table is cut off")
    rows = list(_SECTION.iter_unpack(raw))
    file.seek(rows[names_at][4])
    names = file.read(min(rows[names_at][5], _LONGEST_NAMES))
    found = {}
    for row in rows:
        name = names[row[0] : names.find(b"\0", row[0])].decode(errors="replace")
        found[name] = Section(row[4], 0 if row[1] == _NOBITS else row[5], bool(row[2] & _COMPRESSED))
    return found


def _symbols(data: mmap.mmap, wanted: dict[bytes, str]) -> Symbols:
    (kind,) = struct.unpack_from("<H", data, 16)
    (table,) = struct.unpack_from("<Q", data, 40)
    size, count = struct.unpack_from("<HH", data, 58)
    sections = [_SECTION.unpack_from(data, table + index * size) for index in range(count)]
    found: dict[str, int] = {}
    for section in sections:
        if section[1] != _DYNSYM:
            continue
        names_at, names_size = sections[section[6]][4:6]
        names = data[names_at : names_at + names_size]
        at = {names.find(b"\0" + name + b"\0") + 1: name for name in wanted}
        for entry in _SYMBOL.iter_unpack(data[section[4] : section[4] + section[5]]):
            if entry[0] and entry[4] and entry[0] in at:
                found[wanted[at[entry[0]]]] = entry[4]
    return Symbols(kind == _ET_DYN, found)


def _slack(data: mmap.mmap) -> Iterator[Slack]:
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for index in range(count):
        kind, flags, offset, _, _, in_file, in_memory, _ = _PROGRAM.unpack_from(data, table + index * size)
        if kind == _PT_LOAD and flags & _PF_X and in_file == in_memory:
            begin = offset % _PAGE + in_file
            yield Slack(offset - offset % _PAGE, begin, -(-begin // _PAGE) * _PAGE)

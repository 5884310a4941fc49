"""Breakpoints that a debugger has written into a process: found by comparing its code with the files that it came from.

A debugger that is killed takes the knowledge of its breakpoints with it. But code is mapped from files, privately, and
only what was written to since is a copy (proc_pid_pagemap(5)): those few pages are looked at. Imports the standard
library only: guards run without site-packages.
"""

import contextlib
import os
import struct
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from agent import pieces
from agent.within import within

TRAP = {"x86_64": b"\xcc", "aarch64": b"\x00\x00\x20\xd4"}.get(os.uname().machine, b"")
"""The instruction of a breakpoint: int3, brk #0."""
PAGE = os.sysconf("SC_PAGE_SIZE")
MANY = 1000
"""Pages that are asked for one by one; where the kernel does not tell which were written to, all are looked at."""
_FILE, _SWAPPED, _PRESENT = 1 << 61, 1 << 62, 1 << 63


class Code(NamedTuple):
    """A part of a file that is mapped to be executed."""

    start: int
    end: int
    offset: int
    file: Path
    inode: int
    """Of the file; 0 where it needs no comparing."""


Pages = dict[tuple[Path, int, int], bytes]
"""What stands in files: by the file, its inode, and the offset of the page."""


def find(pid: int) -> dict[int, bytes]:
    """What stood at each address where there is a breakpoint now. Empty when the process is gone.

    May never return where a file is on another machine that does not answer.
    """
    return dict(_find(pid))


def find_within(pid: int, seconds: float, known: Pages) -> tuple[dict[int, bytes], bool]:
    """As `find`, as far as files answer within so many seconds, and whether all did.

    `known`: what stands in the files' pages, from earlier looks, which these have not to be asked for again.
    """
    found: dict[int, bytes] = {}
    whole = True
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        pages = [(start, code) for code in _sorted(pid) for start, _ in _trapped(memory.fileno(), pid, code)]
        missing = [page for page in pages if _key(*page) not in known]
        if len(missing) > MANY:
            words, whole = within(seconds, lambda: (f"{address:x} {text.hex()}" for address, text in _find(pid)))
            return {int(address, 16): bytes.fromhex(text) for address, text in map(str.split, words)}, whole
        if missing:
            whole = _learn(missing, seconds, known)
        for start, code in pages:
            with contextlib.suppress(OSError):
                now = os.pread(memory.fileno(), PAGE, start)
                found |= _differences(now, known.get(_key(start, code), b""), start)
    return found, whole


def _key(start: int, code: Code) -> tuple[Path, int, int]:
    return code.file, code.inode, start - code.start + code.offset


def _learn(missing: list[tuple[int, Code]], seconds: float, known: Pages) -> bool:
    """Asks the files for what stands in these pages; whether all answered."""

    def look() -> Iterator[str]:
        for number, (start, code) in enumerate(missing):
            with contextlib.suppress(OSError), _file(code) as file:
                yield f"{number} {os.pread(file, PAGE, start - code.start + code.offset).hex()}"

    words, whole = within(seconds, look)
    if whole:
        known.update((_key(*page), b"") for page in missing)  # of files that are not there any more
    for word in words:
        number, _, text = word.partition(" ")
        known[_key(*missing[int(number)])] = bytes.fromhex(text)
    return whole


def standing(pid: int, originals: Mapping[int, bytes]) -> dict[int, bytes]:
    """Those at which there is a breakpoint now."""
    found = {}
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for address, text in originals.items():
            with contextlib.suppress(OSError):
                if os.pread(memory.fileno(), len(text), address) == TRAP[: len(text)]:
                    found[address] = text
    return found


def _find(pid: int) -> Iterator[tuple[int, bytes]]:
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for code in _sorted(pid):
            pages = _trapped(memory.fileno(), pid, code)
            first = next(pages, None)
            # A library that nobody wrote to needs no looking at, and may be on a machine that does not answer.
            if first is None and code.inode:
                continue
            with contextlib.suppress(OSError), _file(code) as file:
                for start, now in chain((first,) if first else (), pages):
                    before = os.pread(file, PAGE, start - code.start + code.offset)
                    yield from _differences(now, before, start).items()


def _sorted(pid: int) -> list[Code]:
    """The executable first: there most breakpoints are, and what comes behind a file that hangs is not looked at."""
    return sorted(_code(pid), key=lambda code: code.inode != 0)


@contextlib.contextmanager
def _file(code: Code) -> Iterator[int]:
    """A descriptor of it. Raises OSError."""
    with pieces.opened(code.file) as file:
        # Another may have the name by now. The number of the device says nothing: in the list of what is mapped
        # overlayfs (before Linux 6.8) and btrfs give another one than for the file itself.
        if code.inode not in (0, os.fstat(file).st_ino):
            raise FileNotFoundError(code.file)
        yield file


def _trapped(memory: int, pid: int, code: Code) -> Iterator[tuple[int, bytes]]:
    """The pages that were written to and have what may be a breakpoint, with what stands there."""
    for start in _written(pid, code):
        with contextlib.suppress(OSError):
            now = os.pread(memory, PAGE, start)
            if TRAP and TRAP in now:
                yield start, now


def _differences(now: bytes, before: bytes, start: int) -> dict[int, bytes]:
    """The breakpoints in a page, by what stands in its file."""
    if now[: len(before)] == before:
        return {}
    found, size = {}, len(TRAP)
    at = now.find(TRAP)
    while 0 <= at <= len(before) - size:
        # Where all instructions are four bytes long, each begins at a multiple of that.
        if at % size == 0 and before[at : at + size] != TRAP:
            found[start + at] = before[at : at + size]
        at = now.find(TRAP, at + 1)
    return found


def _code(pid: int) -> Iterator[Code]:
    """Of /proc/PID/maps: what is executable, private and of a file."""
    executable = os.readlink(f"/proc/{pid}/exe")
    for line in Path(f"/proc/{pid}/maps").read_text(errors="surrogateescape").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or fields[1][2:] != "xp" or not fields[5].startswith("/"):
            continue
        start, end = (int(word, 16) for word in fields[0].split("-"))
        # By this name the executable can be read also when it was removed, or is on another file system.
        if fields[5] == executable:
            file, inode = Path(f"/proc/{pid}/exe"), 0
        else:
            file, inode = Path(f"/proc/{pid}/root{fields[5]}"), int(fields[4])
        yield Code(start, end, int(fields[2], 16), file, inode)


def _written(pid: int, code: Code) -> Iterator[int]:
    """The pages that are copies; all of them where the kernel does not tell."""
    count = (code.end - code.start) // PAGE
    try:
        with Path(f"/proc/{pid}/pagemap").open("rb", buffering=0) as pagemap:
            words = struct.unpack(f"={count}Q", os.pread(pagemap.fileno(), count * 8, code.start // PAGE * 8))
    except (OSError, struct.error):
        words = (_PRESENT,) * count
    for number, word in enumerate(words):
        if word & _SWAPPED or (word & _PRESENT and not word & _FILE):
            yield code.start + number * PAGE

"""Which C library a process has mapped: debuggers bring code that is compiled for one, or look into it."""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent import pieces
from agent.process import Process
from squash import procfs

_GLIBC = re.compile(rb"stable release version (\d{1,9}\.\d{1,9})\D")
_LONGEST, _BANNER = 16 << 20, 64
"""Bytes of a library that are looked at, and of what is looked for: it stands among the constants, before symbols."""
_LOADED = re.compile(
    r"(\S*/(?:libc\.so\.6|libc-(\d[\d.]*)\.so|ld-linux[^/]*|ld-(\d[\d.]*)\.so|ld-musl-[^/]*|libc\.so))$", re.MULTILINE
)


@dataclass(frozen=True)
class Libc:
    name: str = ""
    """`glibc`, `musl`, or empty: none, as in a static program."""
    version: str = ""
    """Empty when it does not say."""
    obstacle: str = ""
    """Why nothing is known; mostly empty."""

    def __str__(self) -> str:
        if self.obstacle:
            return f"not known: {self.obstacle}"
        return f"{self.name} {self.version}".strip() or "none: a static program"


STATIC = Libc()


def libc(process: Process) -> Libc:
    """By the loader and the library that it has mapped; the version by the file's name, else by what is in it."""
    try:
        maps = (procfs.PROC / str(process.pid) / "maps").read_text(errors="replace")
    except OSError as error:
        return Libc(obstacle=f"what process {process.pid} has mapped cannot be read ({error.strerror})")
    found = list(_LOADED.finditer(maps))
    # The loader of musl is its library too, and may be mapped by that name; glibc's is libc.so.6.
    if any("/ld-musl-" in match[1] or match[1].endswith("/libc.so") for match in found):
        return Libc("musl")
    versions = (match[2] or match[3] for match in found)
    if not found:
        return STATIC
    version = next(filter(None, versions), "")
    return Libc("glibc", version or next(_glibc_versions(process, {match[1] for match in found}), ""))


def _glibc_versions(process: Process, paths: set[str]) -> Iterator[str]:
    for path in sorted(paths):
        with contextlib.suppress(OSError):
            yield from _versions_in(process.root / path.removeprefix("/"))


def _versions_in(path: Path) -> Iterator[str]:
    with pieces.opened(path) as descriptor:
        for data in pieces.windows(descriptor, 0, _LONGEST, _BANNER):
            yield from (found.decode() for found in _GLIBC.findall(data))


def own_glibc() -> str:
    """The version of the agent's own, like `2.36`; empty when it runs on another library."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION").partition(" ")[2]  # type: ignore[union-attr]
    except (ValueError, OSError, AttributeError):
        return ""

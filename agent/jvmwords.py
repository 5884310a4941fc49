"""What a JVM was told at its start: by its environment, its command line, and files of arguments.

All of it is the container's, and so are the files that it names: they are gone to without links, and read in part.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from agent import pieces
from agent.process import Process
from squash import procfs

VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
_LONGEST = 4_194_304
"""Bytes of a file of the container's that are read."""
_ARGUMENTS, _LEAST = 1_048_576, 4096
"""Bytes of all files of arguments together, and as how many each of them counts at least."""
_QUOTED = r""""(?:[^"\\]|\\.)*+"|'[^']*+'|\\."""
_WORD = re.compile(rf"""\#[^\n]*+|((?:{_QUOTED}|[^\s"'\\]|["'\\])++)""", re.DOTALL)
"""A comment, or a word. A quotation without an end is none."""
_MARKS = re.compile(_QUOTED, re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')


def words(process: Process) -> Iterator[str]:
    """What the JVM was told at its start, with what stands in files of arguments (`@file`, of Java's launcher)."""
    environment = procfs.environ(process.pid) or {}
    given = [word for name in VARIABLES for word in _split(environment.get(name, ""))]
    left = _ARGUMENTS
    for word in (*given, *process.cmdline[1:]):
        if not word.startswith("@") or word.startswith("@@"):
            yield word
        elif left > 0:
            text = contents(_place(process, word[1:]), left)
            left -= max(len(text), _LEAST)
            yield from _split(text.decode(errors="replace"))


def _place(process: Process, name: str) -> Path:
    start = process.root if name.startswith("/") else procfs.PROC / str(process.pid) / "cwd"
    # Where no links are followed, the names alone say where `..` leads to.
    return start / os.path.normpath(name).lstrip("/")


def contents(path: Path, most: int = _LONGEST) -> bytes:
    """The beginning of a regular file; empty when there is none that can be read."""
    try:
        with pieces.opened(path) as descriptor:
            return pieces.read(descriptor, 0, most)
    except OSError:
        return b""


def _split(text: str) -> list[str]:
    """As a shell would; in a time that grows with the length alone, which that of `shlex` does not."""
    return [_MARKS.sub(_plain, match[1]) for match in _WORD.finditer(text) if match[1] is not None]


def _plain(match: re.Match[str]) -> str:
    """What a quotation, or an escaped character, stands for."""
    mark, text = match[0][0], match[0][1:]
    if mark == "\\":
        return text
    return text[:-1] if mark == "'" else _ESCAPED.sub(r"\1", text[:-1])

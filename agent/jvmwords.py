"""What a JVM was told at its start: by its environment, its command line, and files of arguments."""

import os
import shlex
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from agent.process import Process
from squash import procfs

VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
_LONGEST = 4_194_304
"""Bytes of a file of the container's that are read."""


def words(process: Process) -> Iterator[str]:
    """What the JVM was told at its start."""
    environment = procfs.environ(process.pid) or {}
    for name in VARIABLES:
        yield from _expanded(process, _split(environment.get(name, "")))
    yield from _expanded(process, process.cmdline[1:])


def _expanded(process: Process, words: Iterable[str]) -> Iterator[str]:
    """With what stands in files of arguments (`@file`, of Java's launcher)."""
    for word in words:
        if word.startswith("@") and not word.startswith("@@"):
            yield from _split(_text(process, word[1:]))
        else:
            yield word


def _text(process: Process, name: str) -> str:
    start = process.root if name.startswith("/") else procfs.PROC / str(process.pid) / "cwd"
    return contents(start / name.lstrip("/")).decode(errors="replace")


def contents(path: Path) -> bytes:
    """The beginning of a regular file; empty when there is none that can be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_LONGEST) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:  # a quotation without end
        return text.split()

"""Standard output as squashctl wants it: it takes every text, and when it takes nothing that can be told."""

import contextlib
import io
import json
import os
import sys
from typing import Any, BinaryIO, cast

import msgspec


class UnwritableError(OSError):
    """Standard output takes nothing: its disk is full, or it was closed. That nobody reads on is a BrokenPipeError."""


class _Raw(io.FileIO):
    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UnwritableError(error.errno, error.strerror) from error


def prepare() -> None:
    """To be called before anything is written.

    What the terminal's character set lacks becomes a question mark. Standard output that was closed (`>&-`) becomes a
    file that refuses what is written, so that no socket takes its number.
    """
    for name, number, flags in (("stdin", 0, os.O_RDONLY), ("stdout", 1, os.O_RDONLY), ("stderr", 2, os.O_WRONLY)):
        if getattr(sys, name) is None:
            file = os.open(os.devnull, flags)
            setattr(sys, name, os.fdopen(file, "w" if number else "r", encoding="utf-8", closefd=False))
    was = sys.stdout
    if isinstance(was, io.TextIOWrapper):
        raw = _Raw(was.fileno(), "w", closefd=False)
        unbuffered = was.write_through
        sys.stdout = io.TextIOWrapper(
            cast(BinaryIO, raw) if unbuffered else io.BufferedWriter(raw),
            encoding=was.encoding,
            errors="replace",
            line_buffering=was.line_buffering,
            write_through=unbuffered,
        )


def forget() -> None:
    """Whatever standard output still holds goes nowhere, and the interpreter has nothing to complain of at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def as_json(value: Any) -> str:
    """One line, in characters that standard output and standard error can both write as they are."""
    with contextlib.suppress(UnicodeEncodeError):
        text = msgspec.json.encode(value).decode()
        for stream in (sys.stdout, sys.stderr):
            text.encode(stream.encoding or "utf-8")
        return text
    # ASCII alone. Bytes of file names that are no UTF-8 came as lone surrogates, which JSON can write, and no more.
    return json.dumps(msgspec.to_builtins(value), separators=(",", ":"))

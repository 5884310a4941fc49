"""Somebody else's files, read in pieces: as large as they say they are, sparse, or changing while they are read.

A mapping of one that is cut short meanwhile would end whoever looks at it (SIGBUS). Imports the standard library only.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

PIECE = 1 << 20
"""Bytes."""
FURTHEST = (1 << 63) - 1


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a regular file. Raises OSError."""
    # What has become a pipe would be waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, f"'{path}' is no regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def read(descriptor: int, offset: int, size: int) -> bytes:
    """Fewer bytes, or none, where the file has no more. Raises OSError."""
    if offset > FURTHEST or size <= 0:
        return b""
    found = []
    while size > 0 and offset <= FURTHEST and (data := os.pread(descriptor, min(size, PIECE), offset)):
        found.append(data)
        offset, size = offset + len(data), size - len(data)
    return b"".join(found)


def windows(descriptor: int, offset: int, size: int, overlap: int) -> Iterator[bytes]:
    """All of that part, piece by piece; each begins with the last `overlap` bytes of the one before. Raises OSError."""
    before = b""
    while data := read(descriptor, offset, min(size, PIECE)):
        yield before + data
        before = (before + data)[-overlap:] if overlap else b""
        offset, size = offset + len(data), size - len(data)

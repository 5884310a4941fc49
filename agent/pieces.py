"""Somebody else's files, read in pieces: as large as they say they are, sparse, or changing while they are read.

A mapping of one that is cut short meanwhile would end whoever looks at it (SIGBUS). Imports the standard library only.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from agent import beneath

PIECE = 1 << 20
"""Bytes."""
FURTHEST = (1 << 63) - 1


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    """A descriptor of a regular file. Raises OSError.

    Below /proc/PID/root and /proc/PID/cwd no link is followed: what a process has mapped has a name without any, and a
    link that is there now would lead to the agent's own files.
    """
    with _place(path) as place:
        # Before it is opened, which is waited for where it is a pipe, and may do something where it is a device.
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise OSError(0, f"'{path}' is no regular file")
        descriptor = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _place(path: Path) -> Iterator[int]:
    """A descriptor that tells of what is there, and opens nothing (O_PATH)."""
    with contextlib.ExitStack() as stack:
        if path.parts[:2] == ("/", "proc") and path.parts[3:4] in (("root",), ("cwd",)):
            root = os.open(Path(*path.parts[:4]), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, root)
            try:
                above = stack.enter_context(beneath.walk(root, "/".join(path.parts[4:-1]), how=beneath.THROUGH))
            except ValueError as error:
                raise OSError(0, str(error)) from error
            place = os.open(path.name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        else:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        stack.callback(os.close, place)
        yield place


def read(descriptor: int, offset: int, size: int) -> bytes:
    """Fewer bytes, or none, where the file has no more. Raises OSError."""
    if offset > FURTHEST or size <= 0:
        return b""
    found, size = [], min(size, FURTHEST - offset)  # pread(2) knows no place behind that
    while size > 0 and (data := os.pread(descriptor, min(size, PIECE), offset)):
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

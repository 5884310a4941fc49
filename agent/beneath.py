"""Files in a place that somebody hostile may rule: gone to by descriptors, name by name, and no link is followed.

A container's user decides what the names in it mean, and can change that at any moment. A path is looked up from the
agent's own root, so that a link in the container would lead to the agent's files. From a descriptor of the container's
root, downwards and without links, there is no way out.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
THROUGH = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""A directory whose names may not be listed will do."""
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
READABLE, PASSABLE = 0o644, 0o755


@contextlib.contextmanager
def walk(start: int, path: str | PurePosixPath, *, make: bool = False, how: int = DIRECTORY) -> Iterator[int]:
    """A descriptor of a directory beneath `start`; `make`: those that are missing are made. Raises OSError.

    `how` each one is opened.
    """
    place = os.dup(start)
    try:
        for name in PurePosixPath(path).parts:
            if name in ("/", ".."):
                raise ValueError(f"'{path}' does not lead downwards")
            below = _made(place, name) if make else os.open(name, how, dir_fd=place)
            os.close(place)
            place = below
        yield place
    finally:
        os.close(place)


def _made(place: int, name: str) -> int:
    """A directory that anybody may read, made if need be."""
    try:
        os.mkdir(name, 0o700, dir_fd=place)
    except FileExistsError:
        return os.open(name, DIRECTORY, dir_fd=place)
    below = os.open(name, DIRECTORY, dir_fd=place)
    os.fchmod(below, PASSABLE)
    return below


def names(directory: int) -> list[str]:
    """Of all that is in it. Raises OSError."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries]


def is_file(directory: int, name: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def put(directory: int, name: str, data: bytes) -> None:
    """A file that anybody may read, in place of what has the name. All of it or nothing. Raises OSError.

    Who is killed meanwhile leaves no half of a file to be taken for the whole.
    """
    fresh = f".{name}.{os.urandom(4).hex()}"
    made = os.open(fresh, NEW, 0o600, dir_fd=directory)
    try:
        with os.fdopen(made, "wb") as file:
            file.write(data)
            os.fchmod(made, READABLE)
        os.rename(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        unlink(directory, fresh)
        raise


def unlink(directory: int, name: str) -> None:
    """Whatever has the name is gone afterwards, unless it is a directory. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def empty(directory: int) -> None:
    """Takes away all that is in it, as far as that goes. Never raises."""
    with contextlib.suppress(OSError):
        for name in names(directory):
            try:
                unlink(directory, name)
            except OSError:
                clear(directory, name)


def clear(directory: int, name: str) -> None:
    """Takes away a directory with all that is in it, as far as that goes. Never raises."""
    # Not above: programs that a debugger waits for look at files by way of this module, and have nothing to clear.
    import shutil  # noqa: PLC0415

    # Somebody may have nested directories a thousand deep; they are in his own memory.
    with contextlib.suppress(RecursionError):
        shutil.rmtree(name, ignore_errors=True, dir_fd=directory)

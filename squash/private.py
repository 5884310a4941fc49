"""Directories that nobody else can have prepared: for sockets and state, which may lie in the shared /tmp."""

import os
import stat
from pathlib import Path

from squash.errors import SettingError


def private_directory(path: Path, mode: int = 0o700) -> None:
    """Makes the directory, and those on the way that are missing, with `mode` less the umask.

    Raises SettingError, naming the place, when it cannot be made, or when below a directory that everybody may write
    (such as /tmp) something on the way is a symbolic link, belongs to another user who is not root, or can be written
    by others. Looks from the top down: what was found sound cannot be exchanged while the rest is looked at.
    """
    path = path.absolute()
    shared = False
    for place in (*reversed(path.parents), path):
        try:
            found = _made(place, mode)
            # A link above the shared directories is the administrator's or our own: what it leads to counts.
            found = found if shared else place.stat()
        except OSError as error:
            raise SettingError(f"directory {str(place)!r} cannot be used: {error.strerror}") from error
        if why := _objection(found, shared):
            raise SettingError(f"directory {str(place)!r} cannot be used: {why}")
        shared = shared or bool(found.st_mode & stat.S_IWOTH)


def _made(place: Path, mode: int) -> os.stat_result:
    try:
        return place.lstat()
    except FileNotFoundError:
        # Somebody may have been faster: what then lies there is looked at like everything else.
        place.mkdir(mode=mode, exist_ok=True)
        return place.lstat()


def _objection(found: os.stat_result, shared: bool) -> str | None:
    if shared and stat.S_ISLNK(found.st_mode):
        return "it is a symbolic link in a place that everybody may write"
    if not stat.S_ISDIR(found.st_mode):
        return "it is not a directory"
    if not shared:
        return None
    if found.st_uid not in (0, os.geteuid()):
        return f"it belongs to another user (uid {found.st_uid}), who could exchange what lies there"
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not found.st_mode & stat.S_ISVTX:
        return "other users may write it (chmod go-w)"
    return None

"""The first admin token: whoever may read a file of the coordinator's user may make all others.

The file lies beside the database, or where `admin_token_file` says. When it is there, the token in it is an admin's, so
that an installer may provide it; when it is not, and no other admin token lives, one is made and written there.
"""

import os
import stat
import time
from pathlib import Path

from coordinator.access import Access
from coordinator.trail import COORDINATOR
from squash.access import DAY, Role, Token
from squash.errors import ApiError, SettingError
from squash.logs import Log
from squash.private import private_directory

SUBJECT = "admin"
TTL = 365 * DAY
_log = Log("access")


def admin_token(access: Access, path: Path) -> None:
    """Sees to it that there is an admin token. Raises SettingError when the file cannot be used."""
    now = time.time()
    text = _read(path)
    if text is not None:
        try:
            access.tokens.find(text, now)
            return
        except ApiError:
            pass
    if text is not None and (adopted := _adopted(access, path, text, now)):
        _log.info("admin token taken from its file", token=adopted, file=path)
        return
    if access.tokens.has_admin(now):
        return
    kept, made = access.tokens.made(_token(now))
    _write(path, made)
    access.keep(kept, COORDINATOR)
    _log.info("admin token written: only this user can read it", token=kept.token.id, file=path)


def _adopted(access: Access, path: Path, text: str, now: float) -> str | None:
    """The id of the token, unless it is one that has ended."""
    try:
        kept = access.tokens.adopted(_token(now), text)
    except ValueError as error:
        raise _unusable(path, f"it holds no token: {error}") from None
    if any(token.id == kept.token.id for token in access.tokens.listed()):
        return None
    access.keep(kept, COORDINATOR)
    return kept.token.id


def _token(now: float) -> Token:
    return Token(id="", role=Role.ADMIN, subject=SUBJECT, created=now, expires=now + TTL)


def _read(path: Path) -> str | None:
    try:
        found = path.stat()
        if found.st_uid not in (0, os.geteuid()):
            raise _unusable(path, f"it belongs to another user (uid {found.st_uid})")
        if found.st_mode & (stat.S_IWGRP | stat.S_IRWXO):
            raise _unusable(path, f"others may use it: chmod 600 {path}")
        return path.read_text().strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, getattr(error, "strerror", None) or "it is not text") from None


def _write(path: Path, text: str) -> None:
    try:
        private_directory(path.parent)
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        with open(new, "x", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(f"{text}\n")
        new.replace(path)
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error


def _unusable(path: Path, why: str) -> SettingError:
    return SettingError(f"admin_token_file = {str(path)!r} cannot be used: {why}")

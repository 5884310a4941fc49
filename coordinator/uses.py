"""How often each ticket was used, until it has expired. Kept in a file, so that no restart makes a ticket new."""

import sqlite3
from pathlib import Path

from squash.errors import ApiError, SettingError
from squash.private import private_directory
from squash.reasons import Reason

_TABLE = (
    "CREATE TABLE IF NOT EXISTS uses (ticket TEXT PRIMARY KEY, number INTEGER NOT NULL, until REAL NOT NULL) STRICT"
)
_ADD = """
    INSERT INTO uses VALUES (?, 1, ?) ON CONFLICT (ticket) DO UPDATE SET number = number + 1 WHERE number < ?
"""


class Uses:
    """`directory` is None where nothing is to be kept. The file is made with the first use."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._db: sqlite3.Connection | None = None

    def add(self, ticket: str, most: int, until: float, now: float) -> None:
        """One use more, remembered until `until`. Raises ApiError: 403 beyond `most`, 503 when it cannot be kept."""
        try:
            db = self._opened()
            db.execute("DELETE FROM uses WHERE until <= ?", (now,))
            counted = db.execute(_ADD, (ticket, until, most)).rowcount
        except (sqlite3.Error, SettingError) as error:
            raise ApiError(503, Reason.STORE_UNAVAILABLE, f"the use of a ticket cannot be kept: {error}") from error
        if not counted:
            raise ApiError(403, Reason.TICKET_USED, f"ticket {ticket} was used {most} times, as often as it may be")

    def take_back(self, ticket: str) -> None:
        """The last use came to nothing."""
        try:
            self._opened().execute("UPDATE uses SET number = number - 1 WHERE ticket = ?", (ticket,))
        except (sqlite3.Error, SettingError) as error:
            raise ApiError(503, Reason.STORE_UNAVAILABLE, f"the use of a ticket cannot be kept: {error}") from error

    def close(self) -> None:
        if self._db:
            self._db.close()

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            if self._directory:
                private_directory(self._directory)
                path = self._directory / "uses.db"
                path.touch(mode=0o600)
                db = sqlite3.connect(path, timeout=0, isolation_level=None)
            else:
                db = sqlite3.connect(":memory:", isolation_level=None)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(_TABLE)
            self._db = db
        return self._db

"""Objects in one SQLite file: a row each, in the order of their creation, the object as JSON; and the audit trail.

WAL with synchronous=NORMAL: what was answered survives the end of the process, however it ends; a power cut may take
the last moments. The file belongs to one coordinator at a time.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from coordinator.decision import AttachmentChange, Change, RequestChange
from coordinator.tokens import Kept
from coordinator.trail import Wanted
from squash.errors import ApiError, SettingError
from squash.logs import Log
from squash.model import AuditEntry, DebugAttachment, DebugRequest
from squash.private import private_directory
from squash.reasons import Reason

APPLICATION_ID = 0x73717568
"""Tells our files from those of other programs (SQLite's header, offset 68)."""
_SCHEMAS = (
    """
    CREATE TABLE objects (number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, name TEXT NOT NULL,
        body BLOB NOT NULL, UNIQUE (kind, name)) STRICT;
    CREATE TABLE probe (id INTEGER PRIMARY KEY, writes INTEGER NOT NULL) STRICT;
    INSERT INTO probe VALUES (0, 0)
    """,
    # Nobody changes what the trail says; the trigger is for whoever opens the file by other means.
    """
    CREATE TABLE trail (number INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, actor TEXT NOT NULL,
        action TEXT NOT NULL, attachment TEXT, body BLOB NOT NULL) STRICT;
    CREATE INDEX trail_of_attachment ON trail (attachment) WHERE attachment IS NOT NULL;
    CREATE INDEX trail_by_time ON trail (time);
    CREATE TRIGGER trail_stays BEFORE UPDATE ON trail BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END
    """,
    # Without these a question for one of few entries would look at all of them, in the event loop.
    """
    CREATE INDEX trail_of_actor ON trail (actor);
    CREATE INDEX trail_of_action ON trail (action)
    """,
)
"""Statements that lead from each schema to the next, separated by a semicolon at the end of a line."""
SCHEMA = len(_SCHEMAS)
_PUT = """
    INSERT INTO objects (kind, name, body) VALUES (?, ?, ?) ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body
"""
_DROP = "DELETE FROM objects WHERE kind = ? AND name = ?"
_TELL = "INSERT INTO trail (time, actor, action, attachment, body) VALUES (?, ?, ?, ?, ?)"
_TRIM_OLD = "DELETE FROM trail WHERE time < ?"
_TRIM_MANY = "DELETE FROM trail WHERE number <= (SELECT max(number) FROM trail) - ?"
_ATTACHMENT, _REQUEST, _TOKEN = "attachment", "request", "token"
_OBJECTS = "SELECT kind, name, body FROM objects WHERE kind IN ('attachment', 'request') ORDER BY number"
_TOKENS = "SELECT name, body FROM objects WHERE kind = 'token' ORDER BY number"
_log = Log("store")


class SqliteStore:
    """Raises SettingError when the file cannot be used: not ours, newer than we, in use, or without permission."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encode = msgspec.json.Encoder().encode
        try:
            private_directory(path.parent)
            path.touch(mode=0o600)
        except SettingError as error:
            raise self._unusable(str(error)) from error
        except OSError as error:
            raise self._unusable(f"{error.strerror}") from error
        try:
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None)
        except sqlite3.Error as error:
            raise self._unusable(_meaning(error)) from error
        try:
            self._open()
        except SettingError:
            self._db.close()
            raise
        except sqlite3.Error as error:
            self._db.close()
            raise self._unusable(_meaning(error)) from error

    def load(self) -> Iterator[Change]:
        attachments, requests = msgspec.json.Decoder(DebugAttachment), msgspec.json.Decoder(DebugRequest)
        try:
            for kind, name, body in self._db.execute(_OBJECTS):
                try:
                    if kind == _ATTACHMENT:
                        yield AttachmentChange(name, None, attachments.decode(body))
                    else:
                        yield RequestChange(name, None, requests.decode(body))
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    # One object less is a lesser harm than no coordinator; it stays in the file to be looked at.
                    _log.error("object cannot be read, going on without it", kind=kind, name=name, error=error)
        except sqlite3.Error as error:
            raise self._unusable(_meaning(error)) from error

    def save(self, changes: Iterable[Change], trail: Sequence[AuditEntry] = ()) -> None:
        # Before the transaction: what cannot be encoded must not leave one open.
        self._save([self._statement(change) for change in changes], trail)

    def _save(self, statements: Sequence[tuple[str, tuple[str | bytes, ...]]], trail: Sequence[AuditEntry]) -> None:
        entries = [(each.time, each.actor, each.action, each.attachment, self._encode(each)) for each in trail]
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for statement, values in statements:
                self._db.execute(statement, values)
            self._db.executemany(_TELL, entries)
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def trail(self, wanted: Wanted) -> list[AuditEntry]:
        given: dict[str, str | float | None] = {"attachment = ?": wanted.attachment, "actor = ?": wanted.actor}
        given |= {"action = ?": wanted.action, "time >= ?": wanted.since}
        where = {condition: value for condition, value in given.items() if value is not None}
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        statement = f"SELECT body FROM trail{condition} ORDER BY number DESC LIMIT ?"  # noqa: S608 - no value in it
        decoder = msgspec.json.Decoder(AuditEntry)
        try:
            rows = self._db.execute(statement, (*where.values(), wanted.limit)).fetchall()
        except sqlite3.Error as error:
            raise self._refusal(error) from error
        return [decoder.decode(body) for (body,) in reversed(rows)]

    def trim(self, before: float, most: int) -> None:
        try:
            self._db.execute(_TRIM_OLD, (before,))
            self._db.execute(_TRIM_MANY, (most,))
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def tokens(self) -> Iterator[Kept]:
        decoder = msgspec.json.Decoder(Kept)
        try:
            for name, body in self._db.execute(_TOKENS):
                try:
                    yield decoder.decode(body)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    _log.error("token cannot be read, going on without it", token=name, error=error)
        except sqlite3.Error as error:
            raise self._unusable(_meaning(error)) from error

    def save_token(self, kept: Kept, trail: Sequence[AuditEntry] = ()) -> None:
        self._save([(_PUT, (_TOKEN, kept.token.id, self._encode(kept)))], trail)

    def drop_token(self, name: str) -> None:
        try:
            self._db.execute(_DROP, (_TOKEN, name))
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def _statement(self, change: Change) -> tuple[str, tuple[str | bytes, ...]]:
        kind = _ATTACHMENT if isinstance(change, AttachmentChange) else _REQUEST
        if change.after is None:
            return _DROP, (kind, change.name)
        return _PUT, (kind, change.name, self._encode(change.after))

    def probe(self) -> None:
        try:
            self._db.execute("UPDATE probe SET writes = writes + 1")
        except sqlite3.Error as error:
            raise self._refusal(error) from error

    def close(self) -> None:
        self._db.close()

    def _open(self) -> None:
        # Exclusive from the first access on: a second coordinator is refused, and no shared memory file is needed.
        self._db.execute("PRAGMA locking_mode = EXCLUSIVE")
        (schema,) = self._db.execute("PRAGMA user_version").fetchone()
        (owner,) = self._db.execute("PRAGMA application_id").fetchone()
        (tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables and owner != APPLICATION_ID:
            raise self._unusable("it is another program's database")
        if schema > SCHEMA:
            raise self._unusable(f"its schema is {schema}, and this version of squash knows up to {SCHEMA}: upgrade")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        # Taking the lock is what tells two coordinators apart, so it comes before the first look at the objects.
        self._db.execute("BEGIN EXCLUSIVE")
        for statements in _SCHEMAS[schema:]:
            for statement in statements.split(";\n"):
                self._db.execute(statement)
        self._db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        self._db.execute(f"PRAGMA user_version = {SCHEMA}")
        self._db.execute("COMMIT")

    def _refusal(self, error: sqlite3.Error) -> ApiError:
        message = _meaning(error)
        _log.error("cannot write", database=self._path, error=message)
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as second:
            _log.error("cannot roll back", database=self._path, error=_meaning(second))
        return ApiError(503, Reason.STORE_UNAVAILABLE, f"the store cannot be written: {message}")

    def _unusable(self, why: str) -> SettingError:
        return SettingError(f"database = {str(self._path)!r} cannot be used: {why} (choose another with --database)")


def _meaning(error: sqlite3.Error) -> str:
    code = getattr(error, "sqlite_errorname", "")
    if code.startswith("SQLITE_BUSY"):
        return "another squash-coordinator uses it"
    if code == "SQLITE_NOTADB":
        return "it is no SQLite database"
    return f"{error} ({code})" if code else str(error)

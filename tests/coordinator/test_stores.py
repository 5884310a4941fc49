"""What the stores keep, and what they refuse."""

import resource
import signal
import sqlite3
from pathlib import Path

import pytest

from coordinator.decision import AttachmentChange, Change, RequestChange
from coordinator.stores import Store
from coordinator.stores.memory import MemoryStore
from coordinator.stores.sqlite import APPLICATION_ID, SCHEMA, SqliteStore
from coordinator.trail import Wanted
from squash.errors import ApiError, SettingError
from squash.model import Action, AttachmentSpec, AuditEntry, DebugAttachment, DebugRequest, Metadata, RequestSpec
from squash.reasons import Reason
from tests.coordinator.program import ATTACHMENTS, Coordinator


def attachment(name: str, image: str = "i") -> AttachmentChange:
    spec = AttachmentSpec(attachment={"pod": "p", "deep": [1, {"a": None}]}, image=image)
    return AttachmentChange(name, None, DebugAttachment(metadata=Metadata(name=name), spec=spec))


def request(name: str) -> RequestChange:
    wanted = DebugRequest(metadata=Metadata(name=name), spec=RequestSpec(image="i", debugger=""))
    return RequestChange(name, None, wanted)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "below" / "c.db"


def reopened(store: Store, path: Path) -> list[Change]:
    store.close()
    again = SqliteStore(path)
    try:
        return list(again.load())
    finally:
        again.close()


def test_everything_comes_back_in_the_order_of_its_creation(path: Path) -> None:
    store = SqliteStore(path)
    store.save([request("b"), attachment("z")])
    store.save([request("a")])
    changed = attachment("z", image="j")
    store.save([changed])
    store.save([request("gone")])
    store.save([RequestChange("gone", request("gone").after, None)])
    assert reopened(store, path) == [request("b"), changed, request("a")]


def test_names_of_both_kinds_are_apart(path: Path) -> None:
    store = SqliteStore(path)
    store.save([request("x"), attachment("x")])
    store.save([AttachmentChange("x", attachment("x").after, None)])
    assert reopened(store, path) == [request("x")]


def test_file_is_the_users_alone(path: Path) -> None:
    store = SqliteStore(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    store.close()


def test_only_one_coordinator_at_a_time(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(SettingError, match="another squash-coordinator uses it"):
        SqliteStore(path)
    store.save([request("a")])
    assert reopened(store, path) == [request("a")]


def test_newer_schema_is_refused(path: Path) -> None:
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    db.close()
    with pytest.raises(SettingError, match=rf"schema is {SCHEMA + 1}.*up to {SCHEMA}"):
        SqliteStore(path)


def test_other_programs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (a)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(SettingError, match="another program's database"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_text("Dear reader, " * 1000)
    with pytest.raises(SettingError, match=r"letter\.txt.*no SQLite database.*--database"):
        SqliteStore(path)
    assert path.read_text() == "Dear reader, " * 1000


def test_unreadable_object_is_named_and_left_out(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(path)
    store.save([attachment("z"), request("a"), request("b")])
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE objects SET body = ? WHERE name = 'a'", (b"{}",))
        db.execute("UPDATE objects SET body = ? WHERE name = 'z'", (b"\xff",))
    db.close()
    assert reopened(SqliteStore(path), path) == [request("b")]
    told = [vars(record)["fields"] for record in caplog.records]
    assert [(fields["kind"], fields["name"]) for fields in told] == [("attachment", "z"), ("request", "a")]


def test_object_that_cannot_be_encoded_harms_no_other(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(UnicodeEncodeError):
        store.save([request("a"), attachment("b", image="\udcff")])
    store.probe()
    store.save([request("c")])
    assert reopened(store, path) == [request("c")]


def test_place_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"c\.db.*cannot be used: .*/file' cannot be used: it is not a directory"):
        SqliteStore(tmp_path / "file" / "c.db")
    with pytest.raises(SettingError, match="unable to open"):
        SqliteStore(tmp_path)


def test_directory_that_somebody_may_have_laid_in_tmp_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "squash-1000").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingError, match="squash-1000' cannot be used: it is a symbolic link"):
        SqliteStore(tmp_path / "squash-1000" / "c.db")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_application_id_marks_the_file(path: Path) -> None:
    SqliteStore(path).close()
    assert int.from_bytes(path.read_bytes()[68:72], "big") == APPLICATION_ID


def test_failed_save_changes_nothing_and_the_next_one_works(path: Path) -> None:
    store = SqliteStore(path)
    store.save([request("a")])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("c.db-wal").stat().st_size, hard))
    try:
        with pytest.raises(ApiError) as caught:
            store.save([request("b"), attachment("b")])
        assert (caught.value.code, caught.value.reason) == (503, Reason.STORE_UNAVAILABLE)
        with pytest.raises(ApiError):
            store.probe()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.probe()
    store.save([request("c")])
    assert reopened(store, path) == [request("a"), request("c")]


def test_memory_forgets() -> None:
    store = MemoryStore()
    store.save([request("a")])
    store.probe()
    assert list(store.load()) == []
    store.close()


def test_what_was_answered_survives_kill_9(tmp_path: Path, pod: str, image: str) -> None:
    with Coordinator(tmp_path) as first:
        wishes = [first.wish(image, hold_until="ready", ttl=500) for _ in range(50)]
        name = first.attached(pod, match=True, holder="sidecar")
        first.patch(name, state="attaching", agent="a", phase="starting")
        before = first.http.get(f"{ATTACHMENTS}/{name}").json()
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    with Coordinator(tmp_path) as second:
        assert second.http.get(f"{ATTACHMENTS}/{name}").json() == before
        assert second.attach(pod, match=True).json()["spec"]["debug_request"] == wishes[1]
        assert second.patch(name, state="attaching", agent="b").status_code == 409
        assert second.end() == 0


def test_full_disk_changes_nothing_and_says_so(tmp_path: Path, pod: str, image: str) -> None:
    with Coordinator(tmp_path) as coordinator:
        coordinator.wish(image)
        name = coordinator.attached(pod)
        before = coordinator.http.get(ATTACHMENTS).json()
        # A log in a file would be full too: the limit counts the store's file, which is larger.
        log = tmp_path / "coordinator.log"
        limit = (tmp_path / "coordinator.db-wal").stat().st_size
        assert log.stat().st_size + 8_192 < limit
        pid = coordinator.process.pid
        whole = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit, whole[1]))
        for answer in (
            coordinator.attach(pod, match=True),
            coordinator.patch(name, state="attaching"),
            coordinator.http.delete(f"{ATTACHMENTS}/{name}"),
            coordinator.http.get("/readyz"),
        ):
            assert answer.status_code == 503, answer.text
            assert answer.json()["reason"] == "store_unavailable"
        assert coordinator.http.get(ATTACHMENTS).json() == before
        assert coordinator.http.get("/healthz").status_code == 200
        resource.prlimit(pid, resource.RLIMIT_FSIZE, whole)
        assert coordinator.http.get("/readyz").status_code == 200
        assert coordinator.attach(pod, match=True).status_code == 201
        assert coordinator.end() == 0


def entry(time: float, **fields: str) -> AuditEntry:
    return AuditEntry(time=time, actor=fields.pop("actor", "ann"), action=Action.DELETED, **fields)


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_the_trail_is_kept_in_order_found_and_trimmed(path: Path, kind: str) -> None:
    store: Store = SqliteStore(path) if kind == "sqlite" else MemoryStore()
    written = [entry(n, attachment=f"a{n % 2}", actor="bob" if n == 3 else "ann") for n in range(6)]
    store.save([request("x")], written[:4])
    store.save([], written[4:])
    assert store.trail(Wanted()) == written
    assert store.trail(Wanted(limit=2)) == written[4:]
    assert store.trail(Wanted(attachment="a1")) == written[1::2]
    assert store.trail(Wanted(actor="bob", action=Action.DELETED)) == [written[3]]
    assert store.trail(Wanted(since=4.0)) == written[4:]
    assert store.trail(Wanted(action=Action.MATCHED)) == []
    store.trim(before=2.0, most=100)
    assert store.trail(Wanted()) == written[2:]
    store.trim(before=0.0, most=1)
    assert store.trail(Wanted()) == written[5:]
    store.close()


def test_the_trail_cannot_be_rewritten(path: Path) -> None:
    store = SqliteStore(path)
    store.save([], [entry(1.0)])
    store.close()
    with sqlite3.connect(path) as db, pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute("UPDATE trail SET actor = 'nobody'")
    db.close()


@pytest.mark.parametrize("column", ["attachment", "actor", "action"])
def test_nobody_looks_at_the_whole_trail_for_one_of_few(path: Path, column: str) -> None:
    store = SqliteStore(path)
    store.close()
    with sqlite3.connect(path) as db:
        for index in ("trail_of_actor", "trail_of_action"):
            db.execute(f"DROP INDEX {index}")
        db.execute("PRAGMA user_version = 2")
    db.close()
    SqliteStore(path).close()
    with sqlite3.connect(path) as db:
        asked = f"SELECT body FROM trail WHERE {column} = ? ORDER BY number DESC LIMIT ?"  # noqa: S608 - of this test
        plan = str(db.execute(f"EXPLAIN QUERY PLAN {asked}", ("x", 9)).fetchall())
    db.close()
    assert f"USING INDEX trail_of_{column}" in plan
    assert "TEMP B-TREE" not in plan


def test_a_file_from_before_the_trail_gets_one(path: Path) -> None:
    store = SqliteStore(path)
    store.save([request("a")])
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("DROP TABLE trail")
        db.execute("PRAGMA user_version = 1")
    db.close()
    again = SqliteStore(path)
    again.save([], [entry(1.0)])
    assert again.trail(Wanted()) == [entry(1.0)]
    assert reopened(again, path) == [request("a")]

"""The program itself: how it starts, logs, stops, and starts again."""

import asyncio
import json
import signal
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.coordinator.program import API, ATTACHMENTS, BIN, REQUESTS, Coordinator, environment

PROGRAM = BIN / "squash-coordinator"


def failed(*flags: str, **env: str) -> str:
    """What it says on stderr when it cannot start."""
    run = subprocess.run(
        [PROGRAM, *flags], env=environment(**env), capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 2, run.stderr
    assert run.stdout == ""
    assert "Traceback" not in run.stderr
    assert len(run.stderr.splitlines()) == 1
    return run.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_stop_answers_what_waits(own: Coordinator, pod: str, number: signal.Signals) -> None:
    name = own.attached(pod)
    wish = own.wish("nothing")
    async with httpx.AsyncClient(base_url=own.url, trust_env=False, timeout=60) as web:
        revision = (await web.get(f"{API}/changes")).json()["revision"]
        async with asyncio.TaskGroup() as group:
            polls = [
                group.create_task(web.get(path, params={"wait": "true", **params}))
                for path, params in (
                    (ATTACHMENTS, {"node": "elsewhere"}),
                    (f"{ATTACHMENTS}/{name}", {}),
                    (f"{REQUESTS}/{wish}", {}),
                    (f"{API}/changes", {"since": revision}),
                )
            ]
            await asyncio.to_thread(own.until, lambda: own.waiters() == 4, "the long polls")
            assert await asyncio.to_thread(own.end, number) == 0
    answers = [poll.result() for poll in polls]
    assert [answer.status_code for answer in answers] == [408, 408, 408, 200]
    assert [answer.json()["reason"] for answer in answers[:3]] == ["stopping"] * 3
    assert answers[3].json().keys() == {"revision"}
    assert "ERROR" not in own.log
    assert own.log.splitlines()[-1].endswith("coordinator: stopped")


def test_restart_keeps_everything_and_resets_watches(tmp_path: Path, pod: str, image: str) -> None:
    with Coordinator(tmp_path) as first:
        wish = first.wish(image)
        late = first.wish("later", ttl=0.5)
        name = first.attached(pod, match=True)
        first.patch(name, state="attaching", agent="a")
        lists = [first.http.get(kind).json() for kind in (ATTACHMENTS, REQUESTS)]
        revision = first.http.get(f"{API}/changes").json()["revision"]
        assert first.end() == 0
    with Coordinator(tmp_path) as second:
        assert second.http.get(ATTACHMENTS).json() == lists[0]
        assert second.http.get(f"{REQUESTS}/{wish}").json() in lists[1]
        second.until(lambda: second.http.get(f"{REQUESTS}/{late}").status_code == 404, "the end of its time")
        changes = second.http.get(f"{API}/changes", params={"since": revision, "wait": "true"}).json()
        assert changes["reset"] is True
        assert changes["attachments"] == lists[0]
        assert second.end() == 0


def test_finished_ones_are_kept_for_a_while(tmp_path: Path, pod: str, image: str) -> None:
    with Coordinator(tmp_path, "--retention", "0.3", "--request-ttl", "0.3") as coordinator:
        wish = coordinator.wish(image)
        name = coordinator.attached(pod, match=True)
        kept = coordinator.attached(pod)
        coordinator.wish("nobody")
        coordinator.patch(name, state="error", reason="attach_failed")
        assert coordinator.http.get(f"{ATTACHMENTS}/{name}").status_code == 200
        coordinator.until(lambda: coordinator.http.get(f"{ATTACHMENTS}/{name}").status_code == 404, "its removal")
        assert coordinator.http.get(f"{REQUESTS}/{wish}").status_code == 404
        coordinator.until(lambda: coordinator.http.get(REQUESTS).json() == [], "the end of its time")
        assert coordinator.http.get(f"{ATTACHMENTS}/{kept}").status_code == 200


def test_busy_port_says_who_has_it_and_what_to_do(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        said = failed("--listen", f"127.0.0.1:{port}", "--database", str(tmp_path / "c.db"))
    assert f"port {port} of 127.0.0.1 is held by process" in said
    assert "--listen" in said
    assert not (tmp_path / "c.db").exists()


def test_second_coordinator_on_the_same_database_is_refused(own: Coordinator, tmp_path: Path) -> None:
    said = failed("--listen", "127.0.0.1:0", "--database", str(tmp_path / "coordinator.db"))
    assert "another squash-coordinator uses it" in said
    assert own.http.get("/readyz").status_code == 200


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("Dear reader, " * 1000)
    assert "no SQLite database" in failed("--listen", "127.0.0.1:0", "--database", str(tmp_path / "letter"))


@pytest.mark.parametrize(
    ("flags", "env", "said"),
    [
        (("--listen", "here"), {}, "listen = 'here' (from --listen)"),
        (("--store", "paper"), {}, "store = 'paper' (from --store)"),
        ((), {"SQUASH_COORDINATOR_MAX_WAIT": "-1"}, "max_wait = '-1' (from SQUASH_COORDINATOR_MAX_WAIT)"),
        (("--platform", "mars", "--store", "memory", "--listen", "127.0.0.1:0"), {}, "platform = 'mars'"),
    ],
)
def test_bad_settings_name_key_and_value(flags: tuple[str, ...], env: dict[str, str], said: str) -> None:
    assert said in failed(*flags, **env)


def test_each_log_line_names_what_it_is_about(tmp_path: Path, pod: str, image: str) -> None:
    with Coordinator(tmp_path, "--log-format", "json") as coordinator:
        wish = coordinator.wish(image)
        name = coordinator.attached(pod, match=True)
        coordinator.patch(name, state="attaching", agent="a")
        coordinator.http.delete(f"{ATTACHMENTS}/{name}")
        assert coordinator.end() == 0
        lines = [json.loads(line) for line in coordinator.log.splitlines()]
    told = [line for line in lines if line["event"].startswith("debug ")]
    assert [line["event"] for line in told] == [
        "debug request created",
        "debug request matched",
        "debug attachment created",
        "debug attachment changed",
        "debug attachment removed",
        "debug request removed",
    ]
    assert all(line.get("attachment") == name or line.get("request") == wish for line in told)
    assert (told[3]["state"], told[3]["agent"]) == ("attaching", "a")


def test_slow_body_does_not_keep_others_waiting(own: Coordinator) -> None:
    host, port = own.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(b"POST /api/v2/debugrequest HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        assert own.http.get("/healthz").status_code == 200
    assert own.end() == 0


def test_help_and_version() -> None:
    for flag, said in (("--help", "--database"), ("--version", "squash")):
        run = subprocess.run([PROGRAM, flag], env=environment(), capture_output=True, text=True, timeout=60, check=True)
        assert said in run.stdout

"""squashctl while it waits: for a match, a debugger, a coordinator that comes back; and told to stop."""

import json
import os
import pty
import re
import signal
from pathlib import Path
from uuid import uuid4

import pytest

from tests.coordinator.program import Coordinator
from tests.squash.conftest import Start
from tests.squash.ctl import Ctl

ADDRESS = "unix:/run/squash/x.sock"


def listen(board: Coordinator, name: str, **more: object) -> None:
    answer = board.patch(
        name, phase="listening", debug_server_address=ADDRESS, debugger="debugpy", protocol="dap", pid=77, **more
    )
    assert answer.status_code == 200, answer.text


def test_a_request_is_followed_to_its_debugger(start: Start, board: Coordinator, pod: str) -> None:
    request = board.wish(f"demo/{pod}", hold_until="ready")
    waiting = start("wait", request)
    board.until(lambda: board.waiters() == 1, "the long poll")
    attachment = board.attached(pod, match=True, held={"method": "GET", "path": "/price?items=apple"})
    assert attachment in waiting.until("matched")
    assert f"default/{pod}/app on node here, held: GET /price?items=apple" in waiting.until("container")
    board.patch(attachment, state="attaching", agent="a", phase="resolving")
    waiting.until("resolving")
    listen(board, attachment)
    # The developer is told where to connect before the request may go.
    said = waiting.until("listening")
    assert ADDRESS in said
    assert "goes on when your breakpoints are set" in said
    assert f"squashctl connect {attachment}; " in said
    assert f"squashctl ready {attachment}" in said
    board.patch(attachment, phase="client_connected")
    waiting.until("client_connected")
    board.patch(attachment, state="attached", phase="ready")
    status, out, _ = waiting.end()
    assert status == 0
    assert re.search(rf"^connect +{ADDRESS} \(dap\)$", out, re.MULTILINE)


def test_debug_request_can_stay_and_wait(start: Start, board: Coordinator, pod: str) -> None:
    waiting = start("debug-request", f"demo/{pod}", "--wait", "--json")
    board.until(lambda: board.waiters() == 1, "the long poll")
    attachment = board.attached(pod, match=True)
    board.patch(attachment, state="attached")
    status, out, err = waiting.end()
    assert (status, err) == (0, "")
    assert json.loads(out)["metadata"]["name"] == attachment


def test_debug_container_can_stay_and_wait(start: Start, board: Coordinator, pod: str) -> None:
    waiting = start("debug-container", pod, "--wait")
    waiting.until("located")
    [name] = [a["metadata"]["name"] for a in board.http.get("/api/v2/debugattachment").json() if pod in str(a)]
    listen(board, name, state="attached")
    assert waiting.end()[0] == 0


@pytest.mark.parametrize(("goal", "state"), [("matched", "none"), ("listening", "attaching"), ("attached", "attached")])
def test_it_waits_as_far_as_asked(ctl: Ctl, board: Coordinator, pod: str, goal: str, state: str) -> None:
    name = board.attached(pod)
    if goal != "matched":
        board.patch(name, state="attaching", agent="a")
        listen(board, name)
    if goal == "attached":
        board.patch(name, state="attached")
    assert ctl.json("wait", name, "--for", goal)["status"]["state"] == state


def test_gdb_is_told_what_to_type(ctl: Ctl, board: Coordinator, pod: str) -> None:
    name = board.attached(pod)
    board.patch(name, state="attached", phase="listening", debug_server_address=ADDRESS, protocol="gdb")
    assert "gdb -ex 'set sysroot /' -ex 'target remote /run/squash/x.sock'" in ctl("wait", name).stdout


def test_an_attachment_that_fails_says_why(ctl: Ctl, board: Coordinator, pod: str) -> None:
    name = board.attached(pod)
    board.patch(name, state="error", reason="ptrace_denied", message="ptrace: Operation not permitted")
    error = ctl.failure("wait", name, status=1)
    assert error["reason"] == "ptrace_denied"
    assert "Operation not permitted" in error["message"]
    assert "CAP_SYS_PTRACE" in error["remedy"]


def test_a_debugger_that_is_out_again_is_no_success(ctl: Ctl, board: Coordinator, pod: str) -> None:
    name = board.attached(pod)
    listen(board, name, state="attached")
    board.patch(name, phase="detached", reason="client_gone")
    assert ctl.failure("wait", name, status=1)["reason"] == "client_gone"


def test_deleted_while_waited_for(start: Start, board: Coordinator, pod: str) -> None:
    name = board.attached(pod)
    waiting = start("wait", name)
    waiting.until("located")
    board.http.delete(f"/api/v2/debugattachment/{name}")
    status, out, err = waiting.end()
    assert (status, out) == (1, "")
    assert "(deleted)" in err


def test_a_request_that_is_taken_back_while_waited_for(start: Start, board: Coordinator) -> None:
    request = board.wish(uuid4().hex)
    waiting = start("wait", request, "--json")
    board.until(lambda: board.waiters() == 1, "the long poll")
    board.http.delete(f"/api/v2/debugrequest/{request}")
    status, out, err = waiting.end()
    assert (status, out) == (1, "")
    assert json.loads(err)["error"]["message"] == f"debug request {request} expired or was deleted"


@pytest.mark.parametrize("timeout", ["0", "0.2s"])
def test_the_time_runs_out(ctl: Ctl, board: Coordinator, pod: str, timeout: str) -> None:
    error = ctl.failure("wait", board.wish(uuid4().hex), "--timeout", timeout, status=4)
    assert error["reason"] == "wait_timeout"
    assert "no marked request has come" in error["message"]
    error = ctl.failure("wait", board.attached(pod), "--timeout", timeout, status=4)
    assert "still none (phase located)" in error["message"]


def test_a_coordinator_that_is_killed_and_comes_back(alone: Ctl, tmp_path: Path, pod: str) -> None:
    with Coordinator(tmp_path) as first:
        name, listening = first.attached(pod), first.url.removeprefix("http://")
        waiting = Ctl(alone.home, first.url).start("wait", name)
        try:
            waiting.until("located")
            first.until(lambda: first.waiters() == 1, "the long poll")
            first.end(signal.SIGKILL)
            with Coordinator(tmp_path, "--listen", listening) as second:
                second.patch(name, state="attached")
                assert waiting.end()[0] == 0
        finally:
            waiting.kill()


def test_a_coordinator_that_goes_for_good(alone: Ctl, own: Coordinator) -> None:
    waiting = Ctl(alone.home, own.url).start("wait", own.wish("demo/x"), "--timeout", "1s")
    try:
        own.until(lambda: own.waiters() == 1, "the long poll")
        own.end(signal.SIGKILL)
        status, _, err = waiting.end()
    finally:
        waiting.kill()
    assert status == 3
    assert "coordinator_unreachable" in err


def test_ctrl_c_says_what_stays(start: Start, board: Coordinator) -> None:
    request = board.wish(uuid4().hex)
    waiting = start("wait", request)
    board.until(lambda: board.waiters() == 1, "the long poll")
    waiting.send(signal.SIGINT)
    status, out, err = waiting.end()
    assert (status, out) == (130, "")
    assert f"squashctl: interrupted; {request} stays; `squashctl delete {request}` removes it\n" in err
    assert "Traceback" not in err


def test_sigterm_ends_it(start: Start, board: Coordinator) -> None:
    waiting = start("wait", board.wish(uuid4().hex), "--json")
    board.until(lambda: board.waiters() == 1, "the long poll")
    waiting.send(signal.SIGTERM)
    assert waiting.end() == (143, "", "")


def test_a_terminal_sees_a_spinner_and_the_time(start: Start, board: Coordinator, pod: str) -> None:
    terminal, its_end = pty.openpty()
    waiting = start("wait", board.wish(f"demo/{pod}"), stderr=its_end)
    os.close(its_end)
    try:
        seen = read_until(terminal, f"waiting for a marked request that reaches demo/{pod}")
        assert re.search(r"\d:\d\d:\d\d", seen)
        board.patch(board.attached(pod, match=True), state="attached")
        assert waiting.end()[0] == 0
        # The spinner's line is gone, the cursor is back.
        assert "\x1b[?25h" in read_until(terminal, "\x1b[?25h")
    finally:
        os.close(terminal)


def test_list_watches(start: Start, board: Coordinator, pod: str) -> None:
    watching = start("list", "attachments", "--watch", "--json")
    before = json.loads(watching.line())["attachments"]
    name = board.attached(pod)
    after = json.loads(watching.line())["attachments"]
    assert [each["metadata"]["name"] for each in after if each not in before] == [name]
    watching.send(signal.SIGINT)
    assert watching.end()[0] == 130


def test_list_outlives_the_coordinators_restart(alone: Ctl, tmp_path: Path, pod: str) -> None:
    with Coordinator(tmp_path) as first:
        listening = first.url.removeprefix("http://")
        watching = Ctl(alone.home, first.url).start("list", "attachments", "--watch", "--json")
        try:
            assert json.loads(watching.line())["attachments"] == []
            first.until(lambda: first.waiters() == 1, "the long poll")
            first.end()
            with Coordinator(tmp_path, "--listen", listening) as second:
                name = second.attached(pod)
                [seen] = json.loads(watching.line())["attachments"]
                assert seen["metadata"]["name"] == name
                watching.send(signal.SIGINT)
                assert watching.end()[0] == 130
        finally:
            watching.kill()


def test_list_without_a_coordinator_does_not_wait_for_one(alone: Ctl, own: Coordinator) -> None:
    own.end()
    assert Ctl(alone.home, own.url).failure("list", "--watch", status=3)["reason"] == "coordinator_unreachable"


def read_until(terminal: int, text: str) -> str:
    seen = ""
    while text not in seen:
        seen += os.read(terminal, 65536).decode(errors="replace")
    return seen

"""The world ends whatever was started through it, and its janitor does when the world cannot."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from demo import janitor, world
from demo.world import ROOT, StartError, World
from squash import procfs
from squash.calls import create_attachment, create_request, get_attachment, get_request
from squash.model import AttachmentSpec, DebugAttachment, DebugRequest, RequestSpec, State
from tests.demo.program import await_ends
from tests.eventually import eventually

STUBBORN = (
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('stubborn ready on nothing', flush=True); signal.pause()"
)
APP = "import signal; print('app ready on nothing', flush=True); signal.pause()"
LAST_WORDS = """
import os, signal, sys
def end(number, frame):
    with open(os.environ["WORDS"], "a") as file:
        file.write(os.environ["NAME"] + "\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True:
    signal.pause()
"""
Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts a Python program that says a line when it is up."""
    started = []

    def start(program: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ | environment
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def identity(pid: int) -> tuple[int, int]:
    stat = procfs.stat(pid)
    assert stat
    return pid, stat.start_time


# -- the janitor ----------------------------------------------------------------------------------------


def test_a_process_that_ends_when_asked(run: Run) -> None:
    process = run(APP)
    assert janitor.end([identity(process.pid)]) == []
    assert process.wait(30) == -signal.SIGTERM


def test_a_process_that_does_not_end_when_asked(run: Run) -> None:
    process = run(STUBBORN)
    assert janitor.end([identity(process.pid)], patience=0.2) == [process.pid]
    assert process.wait(30) == -signal.SIGKILL


def test_a_process_that_is_stopped(run: Run) -> None:
    process = run(APP)
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    assert janitor.end([identity(process.pid)]) == []
    assert process.wait(30) == -signal.SIGTERM


def test_another_process_of_the_same_pid_is_left_alone(run: Run) -> None:
    process = run(APP)
    pid, start_time = identity(process.pid)
    assert janitor.end([(pid, start_time - 1)], patience=0.0) == []
    assert process.poll() is None


def test_a_process_that_is_gone_already(run: Run) -> None:
    process = run(APP)
    known = identity(process.pid)
    process.kill()
    process.wait()
    assert janitor.end([known]) == []


def test_a_process_whose_number_a_thread_has_now(run: Run) -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert thread.native_id
        process = run(APP)
        assert janitor.end([(thread.native_id, 1), identity(process.pid)]) == []
        assert process.wait(30) == -signal.SIGTERM
    finally:
        over.set()
        thread.join()


def test_marked_processes(run: Run, short: Path) -> None:
    mine, other = run(APP, SQUASH_WORLD=str(short)), run(APP, SQUASH_WORLD=f"{short}/other")
    assert janitor.marked([str(short)]) == [identity(mine.pid)]
    assert janitor.marked([f"{short}/other"]) == [identity(other.pid)]
    assert janitor.marked([]) == []


def test_the_janitor_ends_higher_stages_first_then_what_was_never_told(run: Run, short: Path) -> None:
    place = short / "place"
    place.mkdir()
    (place / "file").touch()
    words = short / "words"
    untold, low, high = (run(LAST_WORDS, NAME=name, WORDS=str(words), **more) for name, more in (
        ("untold", {"SQUASH_WORLD": str(place)}), ("low", {}), ("high", {}),
    ))  # fmt: skip
    orders = [f"directory {place}"]
    for stage, each in ((1, low), (2, high)):
        pid, start_time = identity(each.pid)
        orders.append(f"process {stage} {pid} {start_time}")
    argv = [sys.executable, "-m", "demo.janitor"]
    done = subprocess.run(argv, input="\n".join(orders) + "\n", text=True, cwd=ROOT, check=True, capture_output=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert untold.wait(0) == 0
    assert words.read_text().split() == ["high", "low", "untold"]
    assert not place.exists()


# -- the world ------------------------------------------------------------------------------------------


def test_everything_is_gone_after_it(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    with World("w") as found:
        coordinator, agent = found.coordinator(), found.agent()
        app = found.service("app", "demo/app", [sys.executable, "-c", APP])
        pids = [child.pid for child in (coordinator, agent, app)]
        assert found.directory.stat().st_mode & 0o777 == 0o700
        assert all(procfs.alive(*identity(pid)) for pid in pids)
        assert {pid for pid, _ in janitor.marked([str(found.directory)])} >= set(pids)
    assert [child.process.returncode for child in (coordinator, agent)] == [0, 0]
    assert janitor.marked([str(found.directory)]) == []
    assert list(short.iterdir()) == []
    found.close()


def test_it_is_gone_after_an_error() -> None:
    opened = []

    def open_and_fail() -> None:
        with World("w") as found:
            opened.append((found, found.service("app", "demo/app", [sys.executable, "-c", APP])))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        open_and_fail()
    [(found, app)] = opened
    assert app.process.returncode == -signal.SIGTERM
    assert not found.directory.exists()


def test_a_killed_coordinator_comes_back_with_what_it_knew() -> None:
    with World("w") as found:
        first = found.coordinator()
        with found.client() as client:
            name = client.send(create_request(DebugRequest(spec=RequestSpec(image="demo/app", debugger="")))).name
            first.kill()
            second = found.coordinator()
            assert second.where == first.where
            assert client.send(get_request(name)).spec.image == "demo/app"


def test_two_worlds_keep_to_their_own() -> None:
    """Both have a pod of the same name; each debugs its own."""
    with World("w") as one, World("w") as other:
        for found in (one, other):
            found.coordinator()
            found.agent()
        apps = [found.service("app", "demo/app", [sys.executable, "-c", APP]) for found in (one, other)]
        for found, app in zip((one, other), apps, strict=True):
            with found.client() as client:
                spec = AttachmentSpec(attachment={"pod": "app", "namespace": found.namespace})
                made = client.send(create_attachment(DebugAttachment(spec=spec)))
                attached = client.send(get_attachment(made.name, wait=30))
                assert (attached.status.state, attached.status.pid) == (State.ATTACHED, app.pid)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["/nowhere/app"], "app cannot be started: /nowhere/app: No such file or directory"),
        (["/bin/false"], "app ended with status 1 instead of starting: /bin/false"),
        (
            ["/bin/sh", "-c", "echo no room >&2; exit 3"],
            "app ended with status 3 instead of starting: /bin/sh\nno room",
        ),
        (["/bin/sleep", "600"], "app was not ready within 0.5 s: /bin/sleep"),
    ],
)
def test_what_does_not_start_says_why(argv: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "sleep" in argv[0]:
        monkeypatch.setattr(world, "START", 0.5)
    with World("w") as found:
        with pytest.raises(StartError) as failure:
            found.service("app", "demo/app", argv)
        assert str(failure.value) == said


def test_an_envoy_whose_port_is_taken_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder, World("w") as found:
        port = holder.getsockname()[1]
        with pytest.raises(StartError, match=rf"(?s)app-envoy ended with status .*127\.0\.0\.1:{port}.*in use"):
            found.envoy("app", "127.0.0.1:9", "127.0.0.1:9", listen=f"127.0.0.1:{port}")


def test_settings_of_squash_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQUASH_SERVER_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("SQUASHCTL_TIMEOUT", "1")
    with World("w") as found:
        names = {name for name in found.environment() if name.startswith("SQUASH")}
        assert names == {"SQUASH_WORLD"}


def test_its_owner_is_killed_while_a_process_stands_at_a_breakpoint(short: Path, tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-m", "tests.demo.owner"],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(short)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert owner.stdout
        told = json.loads(owner.stdout.readline())
        directory = str(next(short.iterdir()))
        # gdb stops the process as soon as it is connected.
        remote = f"target remote {told['address'].removeprefix('unix:')}"
        with subprocess.Popen(
            ["gdb", "-nx", "-q", "-ex", remote],
            cwd=tmp_path,  # where gdb may leave a core file when its end of the line is cut
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as gdb:
            assert eventually(lambda: (procfs.status(told["service"]) or {}).get("TracerPid", "0") != "0")
            with pytest.raises(httpx.ReadTimeout):
                httpx.get(f"{told['url']}/healthz", timeout=0.5, trust_env=False)
            belongings = [pid for pid, _ in janitor.marked([directory])]
            assert "gdbserver" in {stat.comm for stat in map(procfs.stat, belongings) if stat}
            owner.kill()
            owner.wait()
            await_ends(belongings)
            assert eventually(lambda: list(short.iterdir()), lambda left: not left) == []
            assert janitor.marked([directory]) == []
            gdb.kill()
    finally:
        owner.kill()
        owner.communicate()

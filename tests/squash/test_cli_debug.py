"""squashctl debug with everything real behind it: Envoy, sidecar, coordinator, agent, services, gdb on a terminal."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.dap import Dap
from demo.scenes import PRICING_LINE
from demo.shop import PRICING
from demo.telling import line_of
from demo.world import World
from squash import procfs
from squash.calls import list_attachments, list_audit, list_requests, renew_agent
from squash.cli.person import person
from squash.model import Action, Agent, DebugAttachment, Outcome, Phase
from squash.reasons import Reason
from squash.tasks import spawn
from tests.e2e.street import Caller, Street, free, no_holds, result
from tests.eventually import eventually
from tests.squash.ctl import SQUASHCTL, Ctl, Running
from tests.squash.terminal import Terminal

CART = "/price?items=melon:4,cheese:3"
PLUM = "/stock?items=plum:1"
LOOP = "import time\nprint('app ready on nothing', flush=True)\nwhile True: time.sleep(0.01)\n"
TWINS = f"import os\nos.fork()\n{LOOP}"


class Desk:
    """A street, and a developer with squashctl."""

    def __init__(self, world: World, home: Path) -> None:
        self.street = Street(world)
        self.world = world
        self.namespace = world.namespace
        self.ctl = Ctl(home, self.street.coordinator.where)
        self._started: list[Running] = []

    def start(self, *argv: str) -> Running:
        running = self.ctl.start("debug", *argv)
        self._started.append(running)
        return running

    def terminal(self, *argv: str) -> Terminal:
        return Terminal([SQUASHCTL, "debug", *argv], self.ctl.env)

    def attachments(self) -> list[DebugAttachment]:
        return self.street.client.send(list_attachments())

    def nothing_left(self) -> None:
        """No debug request waits, and no debugger sits anywhere."""
        assert self.street.client.send(list_requests()) == []
        assert {each.status.phase for each in self.attachments()} <= {Phase.DETACHED, Phase.RELEASED}

    def close(self) -> None:
        for running in self._started:
            running.kill()
        self.street.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with World("sq") as world:
        found = Desk(world, tmp_path)
        try:
            yield found
        finally:
            found.close()


@pytest.fixture
async def caller() -> Any:
    found = Caller()
    yield found
    await found.http.aclose()


class Events:
    """What `squashctl debug --json` tells, one document a line."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self.seen: list[str] = []

    async def until(self, name: str) -> dict[str, Any]:
        while line := await asyncio.to_thread(self._running.line):
            event: dict[str, Any] = json.loads(line)
            self.seen.append(event["event"])
            if event["event"] == name:
                return event
        raise AssertionError(f"{name} never came: {self.seen} {self._running.end()}")


async def in_thread(work: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.to_thread(work, *args)


async def test_the_whole_way_of_a_marked_request(desk: Desk, caller: Caller) -> None:
    desk.world.agent()
    pod = await in_thread(desk.street.pod, "pricing")
    running = desk.start("image", pod.image, "-n", desk.namespace, "--url", pod.url + CART, "--json")
    events = Events(running)
    waiting = await events.until("waiting")
    assert waiting["send"] == f"curl -i -H 'x-squash-debug: 1' '{pod.url}{CART}'"
    answer = spawn(caller.get(pod.url + CART), "marked request")
    held = await events.until("held")
    assert (held["method"], held["path"]) == ("GET", CART)
    connect = await events.until("connect")
    assert json.loads(connect["configurations"]["vscode"])["connect"] == connect["listen"]
    port = connect["listen"]["port"]
    with await in_thread(Dap, f"127.0.0.1:{port}") as dap:
        await in_thread(dap.attach, {str(PRICING): [line_of(PRICING, PRICING_LINE)]})
        let_go = await events.until("let_go")
        assert let_go["outcome"] == "attached"
        assert {"starting", "listening", "client_connected", "ready"} <= set(events.seen)
        stopped = await in_thread(dap.event, "stopped")
        await in_thread(lambda: dap.ask("continue", threadId=stopped["threadId"]))
        assert result(await answer).outcome is Outcome.ATTACHED
        running.send(signal.SIGINT)
        await events.until("detached")
    status, _, err = await in_thread(running.end)
    assert (status, err) == (130, "")
    desk.nothing_left()
    assert desk.attachments()[0].status.reason is Reason.ENDED
    trail = await in_thread(desk.street.client.send, list_audit())
    assert {each.actor for each in trail if each.action in (Action.RELEASED, Action.REQUEST_DELETED)} == {person()}
    await in_thread(free, pod)


async def test_the_words_for_people(desk: Desk, caller: Caller) -> None:
    desk.world.agent()
    pod = await in_thread(desk.street.pod, "stock")
    running = desk.start("image", pod.image, "--print", "gdb", "--path", PLUM)
    lines = [await in_thread(running.line) for _ in range(3)]
    assert lines[2] == f"  curl -i -H 'x-squash-debug: 1' 'http://HOST:PORT{PLUM}'\n"
    await in_thread(running.until, "waiting for a marked request that reaches demo/stock")
    answer = spawn(caller.get(pod.url + PLUM), "marked request")
    assert f"request held: GET {PLUM} at {desk.namespace}/stock/app since" in await in_thread(running.until, "held")
    assert "gdb to process" in await in_thread(running.until, "attaching")
    await in_thread(running.until, "connect your debugger to 127.0.0.1:")
    running.send(signal.SIGTERM)
    status, out, err = await in_thread(running.end)
    assert status == 143
    assert "gdb: in a shell; break where you like, then continue\n\n  gdb -ex 'set sysroot /' -ex 'file /" in out
    assert "vscode" not in out
    assert "let go after" in err
    assert result(await answer).outcome is Outcome.RELEASED
    desk.nothing_left()


async def test_ctrl_c_before_anything_came_leaves_nothing(desk: Desk) -> None:
    with desk.terminal("image", "demo/nothing") as terminal:
        await in_thread(terminal.until, "x-squash-debug: 1")
        terminal.ctrl_c()
        assert await in_thread(terminal.end) == 130
    desk.nothing_left()


async def test_a_closed_terminal_leaves_nothing(desk: Desk) -> None:
    with desk.terminal("image", "demo/nothing") as terminal:
        await in_thread(terminal.until, "x-squash-debug: 1")
        terminal.close()
        assert await in_thread(terminal.process.wait, 60) == 129
    desk.nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_the_waiting_phase_ends_with_release(desk: Desk, caller: Caller, number: signal.Signals) -> None:
    desk.world.agent()
    pod = await in_thread(desk.street.pod, "pricing")
    running = desk.start("image", pod.image, "--json")
    events = Events(running)
    await events.until("waiting")
    answer = spawn(caller.get(pod.url + CART), "marked request")
    await events.until("connect")
    running.send(number)
    assert result(await answer).outcome is Outcome.RELEASED
    assert (await in_thread(running.end))[0] == 128 + number
    desk.nothing_left()
    await in_thread(free, pod)
    await in_thread(no_holds, pod)


async def test_a_second_signal_quits_at_once(desk: Desk) -> None:
    pod = desk.world.service("alone", "demo/alone", [sys.executable, "-c", LOOP])
    running = desk.start("container", "alone", "-n", desk.namespace, "--json")
    events = Events(running)
    await events.until("attachment")
    # Nobody can undo anything any more, so that it hangs there until the second one.
    desk.street.coordinator.process.send_signal(signal.SIGSTOP)
    try:
        running.send(signal.SIGINT)
        await events.until("ending")
        running.send(signal.SIGINT)
        assert (await in_thread(running.end))[0] == 130
    finally:
        desk.street.coordinator.process.send_signal(signal.SIGCONT)
    assert pod.process.poll() is None


async def test_kill_9_of_squashctl_holds_nobody_for_long(desk: Desk, caller: Caller) -> None:
    desk.world.agent()
    pod = await in_thread(desk.street.pod, "pricing")
    running = desk.start("image", pod.image, "--json")
    events = Events(running)
    await events.until("waiting")
    answer = spawn(caller.get(pod.url + CART), "marked request")
    await events.until("connect")
    desk.world.service("alone", "demo/alone", [sys.executable, "-c", LOOP])
    other = desk.start("container", "alone", "-n", desk.namespace, "--json")
    await Events(other).until("connect")
    running.kill()
    other.kill()
    found = result(await answer)
    assert found.outcome is Outcome.RELEASED
    assert found.held is not None
    assert found.held < 40
    await in_thread(free, pod)
    eventually(lambda: desk.street.client.send(list_requests()), lambda left: not left)
    eventually(lambda: {each.status.phase for each in desk.attachments()}, lambda left: left == {Phase.DETACHED}, 40)
    desk.nothing_left()
    by_image = {each.spec.image: each.status.reason for each in desk.attachments()}
    assert by_image == {pod.image: Reason.RELEASED, "demo/alone": Reason.EXPIRED}


async def test_gdb_on_a_terminal(desk: Desk, caller: Caller) -> None:
    desk.world.agent()
    pod = await in_thread(desk.street.pod, "stock")
    with desk.terminal("image", pod.image, "--with", "gdb", "--url", pod.url + PLUM) as terminal:
        await in_thread(terminal.until, "x-squash-debug: 1")
        answer = spawn(caller.get(pod.url + PLUM), "marked request")
        await in_thread(terminal.until, "(gdb)")
        terminal.enter("break available")
        await in_thread(terminal.until, "Breakpoint 1 at")
        terminal.enter("continue")
        await in_thread(terminal.until, "Breakpoint 1, ")
        terminal.enter("next")
        terminal.enter("next")
        terminal.enter("set var left = 0")
        terminal.enter("print left + 4242")
        await in_thread(terminal.until, "= 4242")
        # Ctrl-C is gdb's: it stops the program, and squashctl stays.
        terminal.enter("delete")
        terminal.enter("continue")
        await in_thread(terminal.until, "Continuing.")
        served = await answer
        terminal.ctrl_c()
        await in_thread(terminal.until, "SIGINT")
        terminal.enter("quit")
        assert await in_thread(terminal.end) == 0
    assert result(served).outcome is Outcome.ATTACHED
    assert '"available": 0' in served.text
    desk.nothing_left()
    await in_thread(free, pod)


async def test_vs_code_gets_a_workspace_that_attaches(desk: Desk, tmp_path: Path) -> None:
    """The program here only notes what VS Code would be given."""
    desk.world.agent()
    desk.world.service("py", "demo/py", [sys.executable, "-c", LOOP])
    code, noted = tmp_path / "code", tmp_path / "noted"
    code.write_text(f'#!/bin/sh\n[ "$1 $2" = "--new-window --wait" ] && (cat "$3"; echo; echo "$3") > {noted}\n')
    code.chmod(0o755)
    desk.ctl.env["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    done = await in_thread(
        desk.ctl, "debug", "container", "py", "-n", desk.namespace, "--with", "code", "--map", f"{tmp_path}=/app"
    )
    assert done.returncode == 0, done.stderr
    text, _, place = noted.read_text().strip().rpartition("\n")
    workspace = json.loads(text)
    assert workspace["folders"] == [{"path": str(tmp_path)}]
    [launch] = workspace["launch"]["configurations"]
    assert (launch["type"], launch["request"]) == ("debugpy", "attach")
    assert launch["pathMappings"] == [{"localRoot": str(tmp_path), "remoteRoot": "/app"}]
    assert not await in_thread(Path(place).exists)
    desk.nothing_left()


async def test_a_program_dies_with_a_squashctl_that_is_killed(desk: Desk, tmp_path: Path) -> None:
    """And what it left of files goes with the next one."""
    desk.world.agent()
    desk.world.service("py", "demo/py", [sys.executable, "-c", LOOP])
    code, noted, places = tmp_path / "code", tmp_path / "noted", tmp_path / "run/squash/programs"
    code.write_text(f"#!/bin/sh\necho $$ $3 > {noted}.new; mv {noted}.new {noted}; exec sleep 600\n")
    code.chmod(0o755)
    desk.ctl.env |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    running = desk.start("container", "py", "-n", desk.namespace, "--with", "code")
    pid, workspace = (await in_thread(eventually, lambda: noted.is_file() and noted.read_text())).split()
    started = procfs.stat(int(pid))
    assert started
    try:
        running.send(signal.SIGKILL)
        assert not await in_thread(
            eventually, lambda: procfs.alive(int(pid), started.start_time), lambda lives: not lives
        )
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    assert Path(workspace).parent in places.iterdir()
    code.write_text("#!/bin/sh\n")
    desk.world.service("other", "demo/py", [sys.executable, "-c", LOOP])
    done = await in_thread(desk.ctl, "debug", "container", "other", "-n", desk.namespace, "--with", "code")
    assert (done.returncode, list(places.iterdir())) == (0, [])


@pytest.mark.parametrize("then", ["interrupt", "client"])
async def test_nobody_reads_on(desk: Desk, then: str) -> None:
    """As after `squashctl debug … --json | head -5`: Ctrl-C still ends it, and so does the next thing to be told."""
    desk.world.agent()
    desk.world.service("py", "demo/py", [sys.executable, "-c", LOOP])
    running = desk.start("container", "py", "-n", desk.namespace, "--json")
    port = (await Events(running).until("connect"))["listen"]["port"]
    assert running.process.stdout
    running.process.stdout.close()
    if then == "interrupt":
        running.send(signal.SIGINT)
        # What is to be told next may come before the signal does.
        assert await in_thread(running.process.wait, 30) in (130, 1)
    else:
        with await in_thread(socket.create_connection, ("127.0.0.1", port)):
            assert await in_thread(running.process.wait, 30) == 1
    assert running.process.stderr
    assert running.process.stderr.read() == ""
    desk.nothing_left()


async def test_the_console_on_a_terminal(desk: Desk, caller: Caller) -> None:
    desk.world.agent()
    pod = await in_thread(desk.street.pod, "pricing")
    with desk.terminal("image", pod.image, "--console", "--url", pod.url + CART) as terminal:
        await in_thread(terminal.until, "x-squash-debug: 1")
        answer = spawn(caller.get(pod.url + CART), "marked request")
        await in_thread(terminal.until, "(squash)")
        terminal.enter(f"break {PRICING}:{line_of(PRICING, PRICING_LINE)}")
        await in_thread(terminal.until, "1 break ")
        terminal.enter("continue")
        await in_thread(terminal.until, "pricing.py:")
        terminal.enter("quit")
        assert await in_thread(terminal.end) == 0
    assert result(await answer).outcome is Outcome.ATTACHED
    desk.nothing_left()
    await in_thread(free, pod)


async def test_several_containers_are_a_question_on_a_terminal(desk: Desk) -> None:
    desk.world.agent()
    for name in ("one", "two"):
        desk.world.service(name, f"demo/{name}", [sys.executable, "-c", LOOP])
    with desk.terminal("container", "-n", desk.namespace) as terminal:
        shown = await in_thread(terminal.until, "Which of these containers? [1-2] ")
        assert re.search(rf"1  {desk.namespace}/one/app \(demo/one\)", shown)
        terminal.enter("three")
        await in_thread(terminal.until, "Which of these containers? [1-2] ")
        terminal.enter("2")
        await in_thread(terminal.until, "VS Code: ")
        assert f"container {desk.namespace}/two/app" in terminal.seen
        terminal.ctrl_c()
        assert await in_thread(terminal.end) == 130
    desk.nothing_left()


@pytest.mark.parametrize("flags", [[], ["--yes"]])
def test_several_containers_are_an_error_when_nobody_can_be_asked(desk: Desk, flags: list[str]) -> None:
    for name in ("one", "two"):
        desk.world.service(name, f"demo/{name}", [sys.executable, "-c", LOOP])
    error = desk.ctl.failure("debug", "container", "-n", desk.namespace, *flags, status=2)
    assert "several containers could be meant" in error["message"]
    assert f"{desk.namespace}/one/app (demo/one), {desk.namespace}/two/app (demo/two)" in error["message"]
    assert "squashctl debug container POD" in error["message"]
    error = desk.ctl.failure("debug", "image", "-n", desk.namespace, status=2)
    assert "demo/one, demo/two; name one: squashctl debug image IMAGE" in error["message"]


async def test_several_processes_are_a_question_and_a_pid_is_the_answer(desk: Desk) -> None:
    desk.world.agent()
    parent = desk.world.service("twins", "demo/twins", [sys.executable, "-c", TWINS]).pid
    child = next(stat.pid for pid in procfs.pids() if (stat := procfs.stat(pid)) and stat.ppid == parent)
    error = desk.ctl("debug", "container", "twins", "-n", desk.namespace)
    assert error.returncode == 2
    assert f"{parent} " in error.stderr
    assert "name one: squashctl debug container --pid PID" in error.stderr
    with desk.terminal("container", "twins", "-n", desk.namespace) as terminal:
        shown = await in_thread(terminal.until, "Which of these processes? [1-2] ")
        number = next(line.split()[0] for line in shown.splitlines() if f" {child} " in line)
        terminal.enter(number)
        await in_thread(terminal.until, f"to process {child}")
        await in_thread(terminal.until, "VS Code: ")
        terminal.ctrl_c()
        assert await in_thread(terminal.end) == 130
    desk.nothing_left()
    running = desk.start("container", "twins", "-n", desk.namespace, "--pid", str(parent), "--json")
    assert (await Events(running).until("starting"))["pid"] == parent


async def test_the_end_of_the_process_is_told(desk: Desk) -> None:
    desk.world.agent()
    service = desk.world.service("mortal", "demo/mortal", [sys.executable, "-c", LOOP])
    running = desk.start("container", "mortal", "-n", desk.namespace, "--json")
    await Events(running).until("connect")
    service.kill()
    status, _, err = await in_thread(running.end)
    assert (status, json.loads(err)["error"]["reason"]) == (1, "process_gone")


def test_a_debugger_that_no_agent_has_is_named_before_anything_is_held(desk: Desk, tmp_path: Path) -> None:
    desk.street.client.send(renew_agent(Agent(name="poor", node="here", debuggers=["debugpy", "gdb"])))
    (tmp_path / "dlv").touch(0o755)
    desk.ctl.env["PATH"] = str(tmp_path)
    error = desk.ctl("debug", "image", "demo/x", "--with", "dlv")
    assert error.returncode == 1
    assert "--with dlv needs the debugger delve, and no agent has it: they have debugpy, gdb" in error.stderr
    desk.nothing_left()


def test_a_program_that_is_not_installed_is_named_before_anything_is_held(desk: Desk, tmp_path: Path) -> None:
    desk.ctl.env["PATH"] = str(tmp_path)
    error = desk.ctl("debug", "image", "demo/x", "--with", "gdb")
    assert error.returncode == 1
    assert "gdb is not on your PATH: on Debian `apt-get install gdb`" in error.stderr
    desk.nothing_left()


async def test_a_program_of_another_protocol_is_refused_in_words(desk: Desk) -> None:
    desk.world.agent()
    desk.world.service("py", "demo/py", [sys.executable, "-c", LOOP])
    done = await in_thread(
        desk.ctl, "debug", "container", "py", "-n", desk.namespace, "--debugger", "debugpy", "--with", "gdb"
    )
    assert done.returncode == 2
    assert "--with gdb cannot be used: it speaks gdb, and debugpy speaks dap" in done.stderr
    desk.nothing_left()


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--console"], "needs a terminal; in a script take `squashctl console ID`"),
        (["--with", "gdb", "--json"], "cannot be together with --json"),
        (["--print", "notepad"], "'notepad' is not one of chrome, clion,"),
        (["--map", "here"], "'here' is no pair of directories"),
        (["--listen", "0.0.0.0:0"], "would let other machines control the process"),
    ],
)
def test_flags_that_cannot_be_used(desk: Desk, flags: list[str], says: str) -> None:
    done = desk.ctl("debug", "image", "demo/x", *flags)
    assert done.returncode == 2
    assert says in done.stderr
    desk.nothing_left()


def test_a_time_to_wait_runs_out(desk: Desk) -> None:
    error = desk.ctl("debug", "image", "demo/x", "--timeout", "1s")
    assert error.returncode == 4
    assert "after 1 s no client could connect" in error.stderr
    desk.nothing_left()


def test_the_lease_is_renewed_by_whoever_waits(desk: Desk) -> None:
    running = desk.start("image", "demo/x")
    running.until("waiting for")

    def renewed() -> float | None:
        return desk.street.client.send(list_requests())[0].status.renewed

    assert eventually(renewed) is not None

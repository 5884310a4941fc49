"""The agent as a process, with a real coordinator, real services and real debuggers, seen from outside."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from agent.peers import user
from demo.dap import Dap
from demo.world import BIN, Child, World
from squash import procfs
from squash.calls import (
    create_attachment,
    delete_attachment,
    get_attachment,
    list_attachments,
    list_audit,
    ready_attachment,
    release_attachment,
)
from squash.client import Client
from squash.errors import ApiError
from squash.model import Action, AttachmentSpec, DebugAttachment, HoldUntil, Metadata, Phase, State
from squash.reasons import Reason
from tests.agent.targets import NAMESPACE

SERVICE = """
import sys, time
def tick(n):
    return n + 1
print("app ready on nothing", flush=True)
n = 0
while True:
    n = tick(n)
    time.sleep(0.01)
"""
T = TypeVar("T")


def service(world: World, pod: str = "shop", image: str = "demo/shop") -> Child:
    return world.service(pod, image, [sys.executable, "-c", SERVICE])


def wanted(pod: str = "shop", name: str | None = None, **spec: object) -> DebugAttachment:
    given = AttachmentSpec(attachment={"pod": pod, "namespace": NAMESPACE}, **spec)  # type: ignore[arg-type]
    return DebugAttachment(metadata=Metadata(name=name), spec=given)


def attach(client: Client, **spec: object) -> DebugAttachment:
    """Makes an attachment and waits until it is attached or in error."""
    made = client.send(create_attachment(wanted(**spec)))  # type: ignore[arg-type]
    return client.send(get_attachment(made.name, wait=30))


def eventually(look: Callable[[], T], good: Callable[[T], bool], limit: float = 20) -> T:
    """What `look` sees as soon as it is good, or at last: for facts of /proc, which tell nobody when they change."""
    deadline = time.monotonic() + limit
    while not good(found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def phase_of(client: Client, name: str, phase: Phase) -> DebugAttachment:
    return eventually(lambda: client.send(get_attachment(name)), lambda found: found.status.phase is phase)


def threads(pid: int) -> int:
    status = procfs.status(pid)
    return int(status["Threads"]) if status else 0


def test_attach_and_detach(world: World) -> None:
    world.coordinator()
    agent, app = world.agent(), service(world)
    with world.client() as client:
        attached = attach(client)
        assert attached.status.state is State.ATTACHED
        assert attached.status.pid == app.pid
        assert (attached.status.debugger, attached.status.protocol) == ("debugpy", "dap")
        assert set(attached.status.times or {}) >= {"attaching", "resolving", "starting", "listening", "attached"}
        address = attached.status.debug_server_address or ""
        socket = Path(address.removeprefix("unix:"))
        assert socket.stat().st_mode & 0o777 == 0o600
        assert socket.parent.stat().st_mode & 0o777 == 0o700
        with Dap(address) as dap:
            assert dap.attach({}) == {}
            assert phase_of(client, attached.name, Phase.READY).status.phase is Phase.READY
        client.send(delete_attachment(attached.name))
        assert eventually(lambda: threads(app.pid), lambda n: n == 1) == 1
        assert not eventually(socket.exists, lambda there: not there)
        places = world.directory / "agent" / "target"
        assert eventually(lambda: list(places.iterdir()), lambda left: not left) == []
    assert agent.stop() == 0
    assert app.process.poll() is None


def test_hold_until_ready_waits_for_the_client(world: World) -> None:
    world.coordinator()
    world.agent()
    service(world)
    with world.client() as client:
        made = client.send(create_attachment(wanted(hold_until=HoldUntil.READY)))
        listening = phase_of(client, made.name, Phase.LISTENING)
        assert listening.status.state is State.ATTACHING
        with Dap(listening.status.debug_server_address or "") as dap:
            connected = phase_of(client, made.name, Phase.CLIENT_CONNECTED)
            assert connected.status.state is State.ATTACHING
            dap.attach({"/nowhere/at/all.py": [1]})
            ready = client.send(get_attachment(made.name, wait=20))
            assert (ready.status.state, ready.status.phase) == (State.ATTACHED, Phase.READY)
            assert "/nowhere/at/all.py:1" in (ready.status.message or "")


def test_a_developer_says_ready_by_hand(world: World) -> None:
    world.coordinator()
    world.agent()
    app = service(world)
    with world.client() as client:
        made = client.send(create_attachment(wanted(hold_until=HoldUntil.READY)))
        with pytest.raises(ApiError) as early:
            client.send(ready_attachment(made.name))
        listening = phase_of(client, made.name, Phase.LISTENING)
        assert listening.status.state is State.ATTACHING
        client.send(ready_attachment(made.name))
        ready = client.send(get_attachment(made.name, wait=20))
        assert (ready.status.state, ready.status.phase) == (State.ATTACHED, Phase.READY)
        assert ready.status.message == "said to be ready by hand"
        with Dap(listening.status.debug_server_address or "") as dap:
            dap.attach({})
            connected = eventually(
                lambda: client.send(get_attachment(made.name)), lambda found: bool(found.status.client)
            )
            assert connected.status.client == user(os.getuid())
        left = eventually(lambda: client.send(get_attachment(made.name)), lambda found: not found.status.client)
        assert (left.status.client, left.status.state, left.status.phase) == ("", State.ATTACHED, Phase.READY)
        assert client.send(ready_attachment(made.name)).status.state is State.ATTACHED
        assert early.value.reason is Reason.ILLEGAL_STEP
        assert app.process.poll() is None


def test_what_is_done_in_a_session_is_written_down_without_values(world: World) -> None:
    world.coordinator()
    agent = world.agent()
    service(world)

    def trail(client: Client, name: str) -> list[tuple[Action, str]]:
        me = user(os.getuid())
        found = client.send(list_audit(attachment=name))
        return [(entry.action, entry.detail or "") for entry in found if entry.actor == me]

    with world.client() as client:
        name = attach(client).name
        with Dap(client.send(get_attachment(name)).status.debug_server_address or "") as dap:
            dap.attach({"/nowhere.py": [1]})
            dap.ask("evaluate", expression="41+1", context="repl")
            dap.ask("disconnect", terminateDebuggee=True)
        expected = [
            (Action.CLIENT_CONNECTED, ""),
            (Action.BREAKPOINTS, "1 in /nowhere.py"),
            (Action.EVALUATED, "repl"),
            (Action.TERMINATION_REFUSED, "disconnect"),
            (Action.CLIENT_LEFT, ""),
        ]
        assert eventually(lambda: trail(client, name), lambda seen: len(seen) >= 5) == expected
        with Dap(client.send(get_attachment(name)).status.debug_server_address or ""):
            eventually(lambda: client.send(get_attachment(name)), lambda found: bool(found.status.client))
        assert agent.stop() == 0
        assert trail(client, name)[5:] == [(Action.CLIENT_CONNECTED, ""), (Action.CLIENT_LEFT, "without a word")]


def test_a_second_attachment_is_refused_and_the_first_not_disturbed(world: World) -> None:
    world.coordinator()
    world.agent()
    service(world)
    with world.client() as client:
        first = attach(client)
        second = attach(client)
        assert (second.status.state, second.status.reason) == (State.ERROR, Reason.PROCESS_BUSY)
        assert first.name in (second.status.message or "")
        with Dap(first.status.debug_server_address or "") as dap:
            assert dap.ask("initialize", adapterID="x")["supportsConfigurationDoneRequest"]
        client.send(delete_attachment(first.name))
        third = attach(client)
        assert third.status.state is State.ATTACHED, third.status.message


def test_two_agents_never_take_the_same(world: World) -> None:
    world.coordinator()
    world.agent(name="agent-a")
    world.agent(name="agent-b")
    apps = [service(world, f"shop-{n}", f"demo/shop-{n}") for n in range(4)]
    with world.client() as client:
        made = [client.send(create_attachment(wanted(f"shop-{n}"))) for n in range(4)]
        done = [client.send(get_attachment(attachment.name, wait=30)) for attachment in made]
        assert [attachment.status.state for attachment in done] == [State.ATTACHED] * 4
        assert [attachment.status.pid for attachment in done] == [app.pid for app in apps]


@pytest.mark.parametrize("ending", ["error_released", "deleted"])
def test_letting_go_while_it_waits_for_a_client_takes_the_debugger_out(world: World, ending: str) -> None:
    world.coordinator()
    world.agent()
    app = service(world)
    with world.client() as client:
        made = client.send(create_attachment(wanted(hold_until=HoldUntil.READY)))
        phase_of(client, made.name, Phase.LISTENING)
        if ending == "deleted":
            client.send(delete_attachment(made.name))
        else:
            released = client.send(release_attachment(made.name))
            assert (released.status.state, released.status.reason) == (State.ERROR, Reason.RELEASED)
        assert eventually(lambda: threads(app.pid), lambda n: n == 1) == 1


def test_the_agents_stop_detaches_and_says_so(world: World) -> None:
    world.coordinator()
    agent, app = world.agent(), service(world)
    with world.client() as client:
        attached = attach(client)
        assert agent.stop() == 0
        assert threads(app.pid) == 1
        after = client.send(get_attachment(attached.name)).status
        assert (after.state, after.phase, after.reason) == (State.ATTACHED, Phase.DETACHED, Reason.AGENT_STOPPED)


def test_an_agent_that_comes_back_cleans_up_after_its_death(world: World) -> None:
    world.coordinator()
    agent, app = world.agent(), service(world)
    with world.client() as client:
        attached = attach(client)
        agent.kill()
        assert eventually(lambda: threads(app.pid), lambda n: n == 1, limit=10) == 1, "free without the agent's help"
        world.agent()
        lost = eventually(lambda: client.send(get_attachment(attached.name)), lambda a: a.status.state is State.ERROR)
        assert lost.status.reason is Reason.AGENT_RESTARTED
        assert list((world.directory / "agent" / "target").iterdir()) == []
        assert attach(client).status.state is State.ATTACHED


def test_the_coordinators_death_and_return_change_nothing(world: World) -> None:
    coordinator = world.coordinator()
    world.agent()
    service(world)
    with world.client() as client:
        made = client.send(create_attachment(wanted(hold_until=HoldUntil.READY)))
        address = phase_of(client, made.name, Phase.LISTENING).status.debug_server_address or ""
    coordinator.kill()
    with Dap(address) as dap:
        dap.attach({})
        world.coordinator()
        with world.client() as client:
            ready = client.send(get_attachment(made.name, wait=20))
            assert ready.status.state is State.ATTACHED


def test_a_client_that_does_not_come_back_ends_the_session(world: World) -> None:
    world.coordinator()
    world.agent("--client-grace", "0.1")
    app = service(world)
    with world.client() as client:
        attached = attach(client)
        with Dap(attached.status.debug_server_address or "") as dap:
            dap.attach({})
        after = phase_of(client, attached.name, Phase.DETACHED).status
        assert (after.state, after.reason) == (State.ATTACHED, Reason.CLIENT_GONE)
        assert eventually(lambda: threads(app.pid), lambda n: n == 1) == 1


def test_the_end_of_the_process_is_told(world: World) -> None:
    world.coordinator()
    world.agent()
    app = service(world)
    with world.client() as client:
        attached = attach(client)
        app.kill()
        after = phase_of(client, attached.name, Phase.DETACHED).status
        assert (after.state, after.reason) == (State.ERROR, Reason.PROCESS_GONE)


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"process_name": "java"}, Reason.PROCESS_NOT_FOUND),
        ({"debugger": "perldb"}, Reason.UNKNOWN_DEBUGGER),
    ],
)
def test_what_cannot_be_attached_says_why(world: World, spec: dict[str, str], reason: Reason) -> None:
    world.coordinator()
    world.agent()
    service(world)
    with world.client() as client:
        failed = attach(client, **spec)
        assert (failed.status.state, failed.status.reason) == (State.ERROR, reason)
        assert failed.status.message


def test_the_oldest_process_of_the_container_is_taken(world: World) -> None:
    world.coordinator()
    world.agent()
    forking = f"import os\nif os.fork() == 0: os.setpgid(0, 0)\n{SERVICE}"
    app = world.service("shop", "demo/shop", [sys.executable, "-c", forking])
    children = eventually(lambda: [p for p in procfs.pids() if (s := procfs.stat(p)) and s.ppid == app.pid], bool)
    try:
        with world.client() as client:
            assert attach(client).status.pid == app.pid
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def test_many_attachments_at_once(world: World) -> None:
    world.coordinator()
    world.agent("--concurrency", "2")
    for n in range(6):
        service(world, f"shop-{n}", f"demo/shop-{n}")
    with world.client() as client:
        made = [client.send(create_attachment(wanted(f"shop-{n}"))) for n in range(6)]
        states = [client.send(get_attachment(attachment.name, wait=60)).status.state for attachment in made]
        assert states == [State.ATTACHED] * 6
        for attachment in made:
            client.send(delete_attachment(attachment.name))
        assert client.send(list_attachments()) == []


def test_an_agent_without_a_coordinator_waits_for_one(world: World) -> None:
    coordinator = world.coordinator()
    coordinator.kill()
    world.agent()
    service(world)
    world.coordinator()
    with world.client() as client:
        assert attach(client).status.state is State.ATTACHED


def test_a_release_after_the_fact_is_refused(world: World) -> None:
    world.coordinator()
    world.agent()
    service(world)
    with world.client() as client:
        attached = attach(client)
        with pytest.raises(ApiError) as refusal:
            client.send(release_attachment(attached.name))
        assert (refusal.value.code, refusal.value.reason) == (409, Reason.ILLEGAL_STEP)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--attach-timeout", "soon"], "attach_timeout = 'soon' (from --attach-timeout) cannot be used"),
        (["--server-url", "nonsense"], "server_url = 'nonsense' cannot be used"),
        (["--containers", "podman"], "containers = 'podman' cannot be used: installed are cri, docker, local"),
        (["--debug-listen", "0.0.0.0:0"], "debug_listen = '0.0.0.0:0' would let other machines control"),
        (["--runtime-dir", "/proc/nothing"], "runtime_dir = '/proc/nothing' cannot be used"),
    ],
)
def test_bad_settings_are_refused_with_key_and_value(options: list[str], says: str, short: Path) -> None:
    argv = [str(BIN / "squash-agent"), "--runtime-dir", str(short / "run"), *options]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stdout == ""


def test_a_client_of_the_first_generation_dials_what_the_status_says(world: World) -> None:
    world.coordinator()
    world.agent("--debug-listen", "127.0.0.1:0")
    service(world)
    with world.client() as client:
        address = attach(client).status.debug_server_address or ""
        assert address.startswith("127.0.0.1:")
        with Dap(address) as dap:
            assert dap.attach({}) == {}


def test_ctrl_c_is_a_clean_stop(world: World) -> None:
    world.coordinator()
    agent = world.agent()
    agent.process.send_signal(signal.SIGINT)
    assert agent.process.wait(30) == 0


def test_attaches_survive_a_storm_of_deletes(world: World) -> None:
    """Deleting at every moment of an attach leaves the process free and the agent well."""
    world.coordinator()
    agent, app = world.agent(), service(world)
    with world.client() as client:
        for pause in (0.0, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2):
            made = client.send(create_attachment(wanted()))
            threading.Event().wait(pause)
            client.send(delete_attachment(made.name))
        assert attach(client).status.state is State.ATTACHED
        assert agent.process.poll() is None
        assert app.process.poll() is None

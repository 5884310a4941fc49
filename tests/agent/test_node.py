"""Node's inspector in processes that run: the real worker, a real client, requests over HTTP."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent import netns, nodeport
from agent.debuggers.node import Node, NodeServer
from agent.preflight.finding import Level
from agent.preflight.run import examine
from agent.process import Process
from agent.terms import ORDINARY, Terms
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason
from squash.tasks import spawn

from .native import until
from .nodes import LINE, PROGRAM, Client, RefusedError, Service, client, free_port, service
from .targets import NAMESPACE, session, target


@asynccontextmanager
async def attached(running: Service, short: Path, terms: Terms = ORDINARY) -> AsyncIterator[tuple[NodeServer, str]]:
    """The debugger in the process, and the address of a session on it."""
    debugger = Node()
    server = await debugger.attach(target(running.facts(), short))
    try:
        async with session(debugger, server, short, terms) as address:
            yield server, address
    finally:
        await server.detach()


async def stop_at_price(caller: Client, running: Service, *, change: int | None = None) -> dict[str, Any]:
    """A client's whole visit: a breakpoint, a request that runs into it, a look at the locals, and on."""
    answers = await caller.begin(LINE)
    assert len(answers[0]["locations"]) == 1
    request = spawn(running.asks("price", 5), "request")
    paused = await caller.event("Debugger.paused")
    seen = await caller.locals(paused)
    if change is not None:
        await caller.change(paused, "total", change)
    await caller.ask("Debugger.resume")
    line = paused["callFrames"][0]["location"]["lineNumber"]
    return {"line": line, "locals": seen, "answer": await request}


async def test_a_breakpoint_is_hit_by_a_request(short: Path) -> None:
    with service() as running:
        before = running.outside()
        async with attached(running, short) as (_, address):
            assert running.outside()["listening"] == before["listening"], "the port was closed again"
            async with client(address) as caller:
                seen = await stop_at_price(caller, running, change=42)
        assert seen == {
            "line": LINE,
            "locals": {"amount": 5, "rate": 3, "total": 15},
            "answer": {"price": 42},
        }
        assert await running.settled(before) == before
        assert os.listdir(short / "t") == []


async def test_attach_detach_attach_at_full_speed(short: Path) -> None:
    with service() as running:
        running.ask("speed")
        before = min(running.ask("speed")["microseconds"] for _ in range(3))
        for _turn in range(3):
            async with attached(running, short) as (_, address), client(address) as caller:
                assert (await stop_at_price(caller, running))["answer"] == {"price": 15}
        after = min(running.ask("speed")["microseconds"] for _ in range(5))
        # Code that stayed instrumented would cost many times as much; the limit leaves room for a noisy machine.
        assert after < before * 2.5


async def test_requests_in_flight_go_on_while_debuggers_come_and_go(short: Path) -> None:
    with service("busy") as running:
        before = running.outside()
        done = asyncio.Event()
        answers: list[Any] = []

        async def traffic() -> None:
            while not done.is_set():
                answers.append(await running.asks("price", 2))

        calling = spawn(traffic(), "traffic")
        for _turn in range(5):
            async with attached(running, short):
                pass
        done.set()
        await calling
        assert len(answers) > 0
        assert all(answer == {"price": 6} for answer in answers)
        assert await running.settled(before) == before


async def test_a_main_thread_that_only_calculates_is_entered_too(short: Path) -> None:
    with service() as running:
        blocked = spawn(running.asks("block", 2), "request")
        await asyncio.sleep(0)
        async with attached(running, short) as (_, address), client(address) as caller:
            await caller.ask("Debugger.enable")
            await caller.ask("Debugger.pause")
            await caller.event("Debugger.paused")
            await caller.ask("Debugger.resume")
        assert await blocked == {"blocked": True}


async def test_a_client_that_vanishes_at_a_breakpoint_stops_nobody(short: Path) -> None:
    with service() as running:
        async with attached(running, short) as (_, address):
            async with client(address) as caller:
                await caller.begin(LINE)
                request = spawn(running.asks("price", 5), "request")
                await caller.event("Debugger.paused")
                caller.vanish()
                assert await request == {"price": 15}
                assert await running.asks("price", 7) == {"price": 21}, "the breakpoint is gone"
            async with client(address) as again:
                await again.ask("Debugger.enable")
                await again.ask("Runtime.runIfWaitingForDebugger")
                said = await again.event("Runtime.consoleAPICalled")
                assert said["args"][0]["value"] == f"squash: breakpoints set again: file://{PROGRAM}:{LINE + 1}"
                request = spawn(running.asks("price", 5), "request")
                await again.event("Debugger.paused")
                await again.ask("Debugger.resume")
                assert await request == {"price": 15}
                assert (await stop_at_price(again, running))["answer"] == {"price": 15}, "it may set its own"


async def test_the_workers_of_the_program_are_seen_and_ours_is_not(short: Path) -> None:
    """A client that stopped our worker could never be heard again."""
    with service("workers") as running:
        async with attached(running, short) as (_, address), client(address) as caller:
            await caller.ask("NodeWorker.enable", waitForDebuggerOnStart=False)
            seen = await caller.event("NodeWorker.attachedToWorker")
            assert seen["workerInfo"]["url"] == f"file://{PROGRAM}"
            assert (await stop_at_price(caller, running))["answer"] == {"price": 15}
            others = [said for said in caller.events if said.get("method") == "NodeWorker.attachedToWorker"]
            assert others == []


async def test_the_process_can_end_while_a_client_is_there(short: Path) -> None:
    running = Service()
    async with attached(running, short) as (server, address), client(address) as caller:
        await caller.begin(LINE)
        with contextlib.suppress(OSError):
            await running.asks("exit")
        await server.ended()
    assert await asyncio.to_thread(running.child.wait, 20) == 7
    running.child.communicate()


async def test_who_only_looks_sees_everything_and_changes_nothing(short: Path) -> None:
    with service() as running:
        async with attached(running, short, Terms(read_only=True)) as (_, address), client(address) as caller:
            await caller.begin(LINE)
            request = spawn(running.asks("price", 5), "request")
            paused = await caller.event("Debugger.paused")
            assert (await caller.locals(paused))["total"] == 15
            with pytest.raises(RefusedError, match="setVariableValue changes it"):
                await caller.change(paused, "total", 42)
            with pytest.raises(RefusedError, match="evaluating runs code"):
                await caller.ask("Runtime.evaluate", expression="process.exit()")
            with pytest.raises(RefusedError, match="a condition runs code"):
                await caller.begin(LINE - 1, condition="process.exit()")
            frame = paused["callFrames"][0]["callFrameId"]
            tried = await caller.ask(
                "Debugger.evaluateOnCallFrame", callFrameId=frame, expression="total * 2", throwOnSideEffect=True
            )
            assert tried["result"]["value"] == 30
            await caller.ask("Debugger.resume")
            assert await request == {"price": 15}


async def test_an_editors_stop_does_not_end_the_service(short: Path) -> None:
    with service() as running:
        async with attached(running, short) as (_, address), client(address) as caller:
            await caller.begin(LINE)
            with pytest.raises(RefusedError, match="may not end the process"):
                await caller.ask("Runtime.terminateExecution")
            foreign = 'Object.assign(process.env, {"NODE_OPTIONS":"--require /home/ann/bootloader.js"})'
            with pytest.raises(RefusedError, match="autoAttachChildProcesses"):
                await caller.ask("Runtime.evaluate", expression=foreign)
            await caller.leave()
            assert await running.asks("price", 7) == {"price": 21}


AGENT = """
import asyncio, pathlib, sys
from agent.debuggers import Target
from agent.debuggers.node import Node
from agent.process import Process
from agent.sessions import Doors, Ears, Session
from agent.terms import ORDINARY
from squash.logs import Log

async def main():
    directory = pathlib.Path(sys.argv[2])
    server = await Node().attach(Target(Process.read(int(sys.argv[1])), directory / "t"))
    ears = Ears(*4 * [lambda *_: None])
    session = Session(server, "inspector", Doors(directory / "c.sock"), Log("x"), ORDINARY, ears)
    print(await session.listen(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_killing_the_agent_at_a_breakpoint_sets_the_process_free(short: Path) -> None:
    (short / "t").mkdir()
    with service() as running:
        before = running.outside()
        agent = subprocess.Popen(
            [sys.executable, "-c", AGENT, str(running.pid), str(short)], stdout=subprocess.PIPE, text=True
        )
        assert agent.stdout
        with agent:
            async with client((await asyncio.to_thread(agent.stdout.readline)).strip()) as caller:
                await caller.begin(LINE)
                request = spawn(running.asks("price", 5), "request")
                await caller.event("Debugger.paused")
                agent.send_signal(signal.SIGKILL)
                async with asyncio.timeout(10):
                    assert await request == {"price": 15}
        assert await running.settled(before) == before
        assert await running.asks("price", 7) == {"price": 21}


async def test_a_detach_at_a_breakpoint_sets_the_process_free(short: Path) -> None:
    with service() as running:
        before = running.outside()
        async with attached(running, short) as (server, address), client(address) as caller:
            await caller.begin(LINE)
            request = spawn(running.asks("price", 5), "request")
            await caller.event("Debugger.paused")
            await server.detach()
            assert await request == {"price": 15}
        assert await running.settled(before) == before


# -- the port -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["options", "environment"])
async def test_an_inspector_that_is_on_is_used_and_stays_on(how: str, short: Path) -> None:
    option = "--inspect=127.0.0.1:0"
    node, environment = ((option,), {}) if how == "options" else (("--no-warnings",), {"NODE_OPTIONS": option})
    with service(node=node, environment=environment) as running:
        before = running.outside()
        assert before["inside"]["inspector"]
        async with attached(running, short) as (_, address), client(address) as caller:
            assert (await stop_at_price(caller, running))["answer"] == {"price": 15}
        assert await running.settled(before) == before


async def test_an_inspector_that_anybody_can_reach_is_told_of(short: Path) -> None:
    with service(node=("--inspect=0.0.0.0:0",)) as running:
        found = target(running.facts(), short)
        server = await Node().attach(found)
        await server.detach()
        [tried] = found.attempts
        assert tried.reason is None
        assert tried.message
        assert "open to other machines" in tried.message


async def test_a_process_that_would_die_of_the_signal_is_left_alone(short: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        process = Process.read(sleeper.pid)
        assert process
        assert Node().claim(process) < 0
        with pytest.raises(SquashError, match="does not handle SIGUSR1") as refusal:
            await Node().attach(target(process, short))
        assert refusal.value.reason is Reason.DEBUGGER_UNSUITED
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()


async def test_a_port_that_somebody_else_has_is_named(short: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with service(node=(f"--inspect-port={port}",)) as running:
            with pytest.raises(SquashError, match=f"wants port {port}, which another") as refusal:
                await Node().attach(target(running.facts(), short))
            assert refusal.value.reason is Reason.DEBUGGER_UNSUITED


async def test_processes_that_want_the_same_port_take_turns(short: Path) -> None:
    option = f"--inspect-port={free_port()}"
    debugger = Node()
    with service(node=(option,)) as one, service(node=(option,)) as two:
        for name in ("one", "two"):
            (short / name).mkdir()
        attaching = [debugger.attach(target(each.facts(), short / name)) for name, each in (("one", one), ("two", two))]
        for server in await asyncio.gather(*attaching):
            await server.detach()


async def test_the_primary_of_a_cluster_would_open_the_ports_of_all(short: Path) -> None:
    code = """
const cluster = require('cluster');
if (cluster.isMaster) { cluster.fork().on('online', () => console.log('up')); cluster.fork(); }
else setInterval(() => {}, 1000);
"""
    program = short / "cluster.js"
    program.write_text(code)
    primary = subprocess.Popen(["node", program], stdout=subprocess.PIPE, text=True)
    try:
        assert primary.stdout
        assert primary.stdout.readline() == "up\n"
        process = Process.read(primary.pid)
        assert process
        workers = procfs.children(primary.pid)
        with pytest.raises(SquashError, match="primary of a cluster") as refusal:
            await Node().attach(target(process, short))
        assert str(workers[0]) in refusal.value.message
        worker = Process.read(workers[0])
        assert worker
        assert Node().claim(worker) > Node().claim(process) > 0.5
    finally:
        for pid in (*procfs.children(primary.pid), primary.pid):
            os.kill(pid, signal.SIGKILL)
        primary.communicate()


async def test_somebody_who_is_connected_meanwhile_does_not_stop_the_process(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A port that closes waits for its clients, and the main thread with it."""
    connected: list[Any] = []
    genuine = nodeport._connect

    def late(process: Process, place: nodeport.Place) -> Any:
        if not connected:
            connected.append(())
            connected[0] = genuine(process, place)
        return genuine(process, place)

    monkeypatch.setattr(nodeport, "_connect", late)
    with service() as running:
        before = running.outside()
        found = target(running.facts(), short)
        server = await Node().attach(found)
        assert await running.asks("price", 5) == {"price": 15}
        [tried] = found.attempts
        assert tried.message
        assert f"somebody else (uid {os.getuid()}) was connected" in tried.message
        connected[0][0].close()
        await server.detach()
        assert await running.settled(before) == before, "it closed when they had left"


async def test_what_was_left_open_is_closed_by_the_next_life(short: Path) -> None:
    port = free_port()
    with service(node=(f"--inspect-port={port}",)) as running:
        before = running.outside()
        process = running.facts()
        found = target(process, short)
        found.directory.with_suffix(".woken").write_text(
            json.dumps({"pid": process.pid, "start_time": process.start_time})
        )
        os.kill(running.pid, signal.SIGUSR1)
        await until(lambda: port in {taken for _, taken in procfs.listening(running.pid)})
        await Node().recover(found.directory)
        assert await running.settled(before) == before


async def test_a_port_that_was_opened_for_nothing_is_closed(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers the agent at first: a network that is short of something, a process short of descriptors."""
    genuine, tries = nodeport._connect, iter(range(2))

    def fails_at_first(process: Process, place: nodeport.Place) -> Any:
        if next(tries, None) is not None:
            raise ConnectionError("nobody answers")
        return genuine(process, place)

    monkeypatch.setattr(nodeport, "_connect", fails_at_first)
    with service(node=(f"--inspect-port={free_port()}",)) as running:
        before = running.outside()
        with pytest.raises(SquashError, match=r"cannot be reached .* nobody answers"):
            await Node().attach(target(running.facts(), short))
        assert await running.settled(before) == before


async def test_a_port_that_opens_too_late_is_closed(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodeport, "WAKE", -1.0)
    monkeypatch.setattr(nodeport, "_check_signal", lambda process: os.kill(process.pid, signal.SIGSTOP))
    with service(node=(f"--inspect-port={free_port()}",)) as running:
        before = running.outside()
        try:
            with pytest.raises(SquashError, match="did not open its inspector"):
                await Node().attach(target(running.facts(), short))
        finally:
            os.kill(running.pid, signal.SIGCONT)
        await until(lambda: procfs.listening(running.pid) != before["listening"])
        assert await running.settled(before) == before


async def test_nothing_of_the_programs_options_comes_into_the_worker(short: Path) -> None:
    hook = short / "hook.js"
    hook.write_text("if (!require('worker_threads').isMainThread) process.abort();")
    with service(environment={"NODE_OPTIONS": f"--require {hook}"}) as running:
        async with attached(running, short) as (_, address), client(address) as caller:
            assert (await stop_at_price(caller, running))["answer"] == {"price": 15}


@pytest.mark.parametrize("version", ["12.22.12", "18.16.1", "19.8.1"])
async def test_a_version_that_would_not_live_through_it_is_refused(version: str, short: Path) -> None:
    hook = short / "hook.js"
    hook.write_text(f"Object.defineProperty(process, 'versions', {{ value: {{ node: '{version}' }} }});")
    with service(node=("--require", str(hook), "--inspect-port=0")) as running:
        before = running.outside()
        with pytest.raises(SquashError, match=f"Node {version} crashes .* takes 18.17") as refusal:
            await Node().attach(target(running.facts(), short))
        assert refusal.value.reason is Reason.DEBUGGER_UNSUITED
        assert await running.settled(before) == before


# -- containers -----------------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces")
async def test_in_namespaces_of_its_own_as_a_user_without_rights(short: Path) -> None:
    """Mounts, network and pids apart, the root read-only, uid 1000, no capabilities and none to be had."""
    script = (
        "ip link set lo up && mount --make-rprivate / && mount -t tmpfs dev /dev -o mode=755 "
        "&& mount -o remount,bind,ro / "
        '&& exec setpriv --reuid 1000 --regid 1000 --clear-groups --bounding-set -all --no-new-privs "$@"'
    )
    prefix = ("unshare", "--mount", "--net", "sh", "-c", script, "sh")
    log = short / "says"
    log.touch()
    inside = subprocess.Popen(
        [*prefix, "node", str(PROGRAM)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "SQUASH_NAMESPACE": NAMESPACE},
        cwd="/",
    )
    try:
        assert inside.stdout
        port = json.loads(inside.stdout.readline() or "{}")["port"]
        process = Process.read(inside.pid)
        assert process
        assert process.uid == 1000
        listening = procfs.listening(inside.pid)
        server = await Node().attach(target(process, short))
        async with session(Node(), server, short) as address, client(address) as caller:
            assert procfs.listening(inside.pid) == listening
            await caller.begin(LINE)
            request = spawn(asyncio.to_thread(_asks_inside, inside.pid, port), "request")
            paused = await caller.event("Debugger.paused")
            assert (await caller.locals(paused))["total"] == 15
            await caller.ask("Debugger.resume")
            assert b'{"price":15}' in await request
        assert (process.root / "dev/squash").is_dir()
        await server.detach()
        assert not (process.root / "dev/squash").exists()
        assert inside.poll() is None
    finally:
        inside.kill()
        inside.communicate()


def _asks_inside(pid: int, port: int) -> bytes:
    with netns.connect(pid, "127.0.0.1", port, 20) as connection:
        connection.sendall(b"GET /price/5 HTTP/1.0\r\nHost: x\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(65_536), b""))


# -- the claim ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exe", "cmdline", "claim"),
    [
        ("/usr/bin/node", ("node", "server.js"), 0.9),
        ("/usr/bin/nodejs", ("nodejs", "server.js"), 0.9),
        ("/usr/bin/node20 (deleted)", ("node20", "server.js"), 0.9),
        ("/opt/node-22.3.0", ("node", "server.js"), 0.9),
        ("/usr/bin/node", ("npm start",), 0.6),
        ("/usr/bin/node", ("node", "/usr/lib/node_modules/npm/bin/npm-cli.js", "start"), 0.6),
        ("/usr/bin/node", ("node", "/app/node_modules/.bin/nodemon", "server.js"), 0.6),
        ("/usr/bin/nodepad", ("nodepad",), -1.0),
        ("/usr/bin/bun", ("bun", "server.js"), -1.0),
    ],
)
def test_claims(exe: str, cmdline: tuple[str, ...], claim: float) -> None:
    me = Process.read(os.getpid())
    assert me
    assert Node().claim(replace(me, exe=exe, cmdline=cmdline)) == claim


def test_a_program_that_node_is_built_into_is_known_by_what_it_exports(short: Path) -> None:
    program = short / "shop"
    shutil.copy(Path(shutil.which("node") or "").resolve(), program)
    running = subprocess.Popen([program, str(PROGRAM)], stdout=subprocess.PIPE)
    try:
        assert running.stdout
        running.stdout.readline()
        process = Process.read(running.pid)
        assert process
        assert Node().claim(process) == 0.9
    finally:
        running.kill()
        running.communicate()


@pytest.mark.parametrize(
    ("words", "port"),
    [
        ("", 9229),
        ("--inspect", 9229),
        ("--inspect=5858", 5858),
        ("--inspect=0.0.0.0:5858", 5858),
        ("--inspect=[::1]:5858 --title x", 5858),
        ("--inspect-port 7000", 7000),
        ("--inspect-port=1 --inspect-port=0", 0),
        ("--debug-port=localhost:7001", 7001),
        ("--inspect=localhost", 9229),
    ],
)
def test_the_port_that_options_name(words: str, port: int) -> None:
    assert nodeport.port_of(words) == port


def test_what_comes_after_the_script_is_the_programs() -> None:
    me = Process.read(os.getpid())
    assert me
    words = ("node", "-r", "./hook.js", "--no-warnings", "server.js", "--inspect-port=5")
    assert nodeport.options(replace(me, cmdline=words)).endswith("-r ./hook.js --no-warnings")


# -- the preflight --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "level", "words"),
    [
        (("--inspect-port=0",), Level.OK, "SIGUSR1 opens it"),
        (("--inspect=127.0.0.1:0",), Level.OK, "started with an inspector on 127.0.0.1"),
        (("--inspect=0.0.0.0:0",), Level.WARNING, "its own inspector listens on 0.0.0.0"),
    ],
)
def test_what_the_preflight_finds(options: tuple[str, ...], level: Level, words: str) -> None:
    with service(node=options) as running:
        [found] = [each for each in examine(Node(), running.facts()) if each.check == "inspector"]
        assert found.level is level
        assert words in found.message


def test_a_process_that_is_stopped_is_not_signalled() -> None:
    with service() as running:
        os.kill(running.pid, signal.SIGSTOP)
        try:
            os.waitid(os.P_PID, running.pid, os.WSTOPPED | os.WNOWAIT)
            with pytest.raises(SquashError, match="continue it first") as refusal:
                nodeport.check(running.facts())
            assert refusal.value.reason is Reason.DEBUGGER_UNSUITED
        finally:
            os.kill(running.pid, signal.SIGCONT)


@pytest.mark.parametrize("where", ["options", "environment"])
def test_what_was_told_not_to_listen_to_the_signal(where: str) -> None:
    me = Process.read(os.getpid())
    assert me
    sleeper = subprocess.Popen(
        ["sh", "-c", "trap : USR1; echo up; while :; do sleep 1; done"],
        stdout=subprocess.PIPE,
        env={"NODE_OPTIONS": "--disable-sigusr1" if where == "environment" else "", "PATH": os.environ["PATH"]},
    )
    try:
        assert sleeper.stdout
        sleeper.stdout.readline()
        process = Process.read(sleeper.pid)
        assert process
        words = ("node", "--disable-sigusr1", "x.js") if where == "options" else ("node", "x.js")
        with pytest.raises(SquashError, match="was started with --disable-sigusr1"):
            nodeport.check(replace(process, cmdline=words))
    finally:
        sleeper.kill()
        sleeper.communicate()

"""Node's inspector in processes that run: the real worker, a real client, requests over HTTP."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent import netns
from agent.debuggers.node import Node
from agent.process import Process
from agent.terms import Terms
from squash import procfs
from squash.tasks import spawn

from .nodes import LINE, PROGRAM, RefusedError, Service, attached, client, service, stop_at_price
from .targets import NAMESPACE, session, target


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

"""debugpy in processes that run: the real injection, the real adapter, a real client."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.debuggers.debugpy import INSIDE, Debugpy
from agent.process import Process
from agent.terms import Terms
from demo.dap import Dap, DapError
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason
from squash.tasks import spawn
from tests.drivers.dap import until_closed
from tests.slowness import SLOWNESS

from .pythons import pythons
from .targets import PROGRAM, ROOMS, Debuggee, debuggee, session, target

LINE = next(n for n, text in enumerate(PROGRAM.read_text().splitlines(), 1) if "the tests break here" in text)


def stop_at_price(address: str, service: Debuggee, *, change: str = "") -> dict[str, Any]:
    """A client's whole visit: a breakpoint, a request that runs into it, a look at the locals, and on."""
    with Dap(address, 20.0 * SLOWNESS) as client:
        found = client.attach({str(PROGRAM): [LINE]})
        assert [place["verified"] for place in found[str(PROGRAM)]] == [True]
        service.tell("price 5")
        stopped = client.event("stopped")
        frame = client.ask("stackTrace", threadId=stopped["threadId"])["stackFrames"][0]
        scope = client.ask("scopes", frameId=frame["id"])["scopes"][0]["variablesReference"]
        if change:
            client.ask("setVariable", variablesReference=scope, name="total", value=change)
        variables = client.ask("variables", variablesReference=scope)["variables"]
        client.ask("continue", threadId=stopped["threadId"])
        return {"line": frame["line"], "locals": {v["name"]: v["value"] for v in variables}, "answer": service.answer()}


def visit(address: str) -> None:
    with Dap(address) as client:
        client.attach({})


@pytest.fixture(autouse=True)
async def quiet() -> AsyncIterator[None]:
    """The injector outlives an attach that is given up; its end is waited for here, inside the loop that watches it."""
    yield
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=20)


@pytest.mark.parametrize("room", ROOMS)
async def test_a_breakpoint_is_hit_whatever_the_main_thread_does(room: str, short: Path) -> None:
    debugger = Debugpy()
    with debuggee(room) as service:
        before = service.ask("look"), service.outside()
        server = await debugger.attach(target(service.facts(), short))
        async with session(debugger, server, short) as address:
            seen = await asyncio.to_thread(stop_at_price, address, service, change="42")
        assert seen == {"line": LINE, "locals": {"amount": "5", "rate": "3", "total": "42"}, "answer": {"price": 42}}
        await server.detach()
        assert await settled(service, before) == before


async def settled(service: Debuggee, before: object) -> object:
    """What the process looks like, as soon as it looks like before; else after 20 s: threads end after they say so."""
    found: object = None
    for _ in range(400 * SLOWNESS):
        found = await asyncio.to_thread(service.ask, "look"), service.outside()
        if found == before:
            break
        await asyncio.sleep(0.05)
    return found


@pytest.mark.parametrize("python", pythons())
async def test_attach_detach_attach_at_full_speed_on_every_version(python: str, short: Path) -> None:
    debugger = Debugpy()
    with debuggee("select", python) as service:
        service.ask("speed")
        before = min(service.ask("speed")["seconds"] for _ in range(3))
        for _turn in range(3):
            server = await debugger.attach(target(service.facts(), short))
            async with session(debugger, server, short) as address:
                seen = await asyncio.to_thread(stop_at_price, address, service)
            assert seen["answer"] == {"price": 15}
            await server.detach()
            shutil.rmtree(short / "t")
        after = min(service.ask("speed")["seconds"] for _ in range(5))
        # A trace function that stayed would cost a factor of four to seven; the limit leaves room for a noisy machine.
        assert after < before * 2.5


async def test_requests_in_flight_go_on_while_debuggers_come_and_go(short: Path) -> None:
    debugger = Debugpy()
    with debuggee("busy") as service:
        done = threading.Event()
        answers: list[Any] = []

        def traffic() -> None:
            while not done.is_set():
                answers.append(service.ask("price 2"))

        client = threading.Thread(target=traffic)
        client.start()
        try:
            for _turn in range(5):
                server = await debugger.attach(target(service.facts(), short))
                await server.detach()
                shutil.rmtree(short / "t")
        finally:
            done.set()
            await asyncio.to_thread(client.join)
        assert len(answers) > 0
        assert all(answer == {"price": 6} for answer in answers)


async def test_a_client_that_vanishes_at_a_breakpoint_leaves_the_process_running(short: Path) -> None:
    debugger = Debugpy()
    with debuggee() as service:
        server = await debugger.attach(target(service.facts(), short))

        def vanish(address: str) -> None:
            with Dap(address) as client:
                client.attach({str(PROGRAM): [LINE]})
                service.tell("price 5")
                client.event("stopped")

        async with session(debugger, server, short) as address:
            await asyncio.to_thread(vanish, address)
            assert await asyncio.to_thread(service.answer) == {"price": 15}
            assert await asyncio.to_thread(service.ask, "price 7") == {"price": 21}, "the breakpoint is gone"
            seen = await asyncio.to_thread(stop_at_price, address, service)
            assert seen["answer"] == {"price": 15}, "and the next client is served"
        await server.detach()


STOPS = [("disconnect", {"terminateDebuggee": True}), ("terminate", {}), ("disconnect", {"suspendDebuggee": True})]


@pytest.mark.parametrize(("command", "arguments"), STOPS)
async def test_an_editors_stop_does_not_end_the_service(command: str, arguments: dict[str, Any], short: Path) -> None:
    debugger = Debugpy()
    with debuggee() as service:
        server = await debugger.attach(target(service.facts(), short))

        def stop(address: str) -> None:
            with Dap(address) as client:
                client.attach({str(PROGRAM): [LINE]})
                service.tell("price 5")
                client.event("stopped")
                client.ask(command, **arguments)
                if command == "terminate":
                    client.event("terminated")
                    client.ask("disconnect")
                assert service.answer() == {"price": 15}

        async with session(debugger, server, short) as address:
            await asyncio.to_thread(stop, address)
            assert await asyncio.to_thread(service.ask, "price 7") == {"price": 21}
            seen = await asyncio.to_thread(stop_at_price, address, service)
            assert seen["answer"] == {"price": 15}, "and the next client is served"
        await server.detach()


@pytest.mark.parametrize(("command", "arguments"), STOPS[:2])
async def test_where_it_is_allowed_a_stop_ends_the_service(
    command: str, arguments: dict[str, Any], short: Path
) -> None:
    debugger = Debugpy()
    service = Debuggee(sys.executable, "select")
    server = await debugger.attach(target(service.facts(), short))

    def stop(address: str) -> None:
        with Dap(address) as client:
            client.attach({str(PROGRAM): [LINE]})
            client.send(command, **arguments)
            until_closed(client)

    async with session(debugger, server, short, Terms(allow_terminate=True)) as address:
        await asyncio.to_thread(stop, address)
    await asyncio.to_thread(service.process.communicate)
    await server.detach()


async def test_who_only_looks_sees_everything_and_changes_nothing(short: Path) -> None:
    debugger = Debugpy()
    with debuggee() as service:
        server = await debugger.attach(target(service.facts(), short))

        def look(address: str) -> None:
            with Dap(address) as client:
                client.attach({str(PROGRAM): [LINE]})
                service.tell("price 5")
                stopped = client.event("stopped")
                frame = client.ask("stackTrace", threadId=stopped["threadId"])["stackFrames"][0]
                scope = client.ask("scopes", frameId=frame["id"])["scopes"][0]["variablesReference"]
                names = {v["name"]: v["value"] for v in client.ask("variables", variablesReference=scope)["variables"]}
                assert names["total"] == "15"
                for command, arguments in (
                    ("setVariable", {"variablesReference": scope, "name": "total", "value": "42"}),
                    ("evaluate", {"expression": "exit()", "frameId": frame["id"], "context": "repl"}),
                    ("setExpression", {"expression": "total", "value": "42", "frameId": frame["id"]}),
                ):
                    with pytest.raises(DapError, match="read_only"):
                        client.ask(command, **arguments)
                client.ask("continue", threadId=stopped["threadId"])
                assert service.answer() == {"price": 15}

        async with session(debugger, server, short, Terms(read_only=True)) as address:
            await asyncio.to_thread(look, address)
        await server.detach()


@pytest.mark.parametrize("python", pythons())
async def test_children_forked_at_a_breakpoint_run_on(python: str, short: Path) -> None:
    debugger = Debugpy()
    with debuggee("select", python) as service:
        server = await debugger.attach(target(service.facts(), short))

        def fork(address: str) -> None:
            with Dap(address) as client:
                client.attach({str(PROGRAM): [LINE]})
                assert service.ask("fork 5") == {"child": 15}

        async with session(debugger, server, short) as address:
            await asyncio.to_thread(fork, address)
        await server.detach()
        assert service.ask("fork 5") == {"child": 15}


async def test_a_process_with_no_file_left_is_not_hurt(short: Path) -> None:
    """What is injected cannot even be read then; the main thread, which computes, must not notice."""
    code = """
import resource, sys, threading
print("up", flush=True)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
threading.Thread(target=lambda: (sys.stdin.read(), done.append(1)), daemon=True).start()
done, n = [], 0
while not done:
    n += 1
print("done", flush=True)
"""
    service = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert service.stdout
        assert service.stdout.readline() == "up\n"
        process = Process.read(service.pid)
        assert process
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await Debugpy().attach(target(process, short))
        said = await asyncio.to_thread(service.communicate, "")
        assert said == ("done\n", "")
    finally:
        service.kill()
        service.communicate()


async def test_a_stop_signal_in_the_middle_does_no_harm(short: Path) -> None:
    """The main thread waits for the interpreter, which other code holds, when SIGSTOP comes."""
    code = """
import re, sys, threading, time
def hog():
    re.match(r"(a+)+b", "a" * 25)
    print("free", flush=True)
print("up", flush=True)
sys.stdin.readline()
threading.Thread(target=hog).start()
time.sleep(1000)
"""
    service = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert service.stdout
        assert service.stdin
        assert service.stdout.readline() == "up\n"
        process = Process.read(service.pid)
        assert process
        service.stdin.write("\n")
        service.stdin.flush()
        attaching = spawn(Debugpy().attach(target(process, short)), "attach")
        for _ in range(200):
            if process.tracer:
                break
            await asyncio.sleep(0.005)
        os.kill(service.pid, signal.SIGSTOP)
        # What is stopped says nothing; if it comes too late, nothing is tested, and nothing fails.
        await asyncio.sleep(0.1)
        os.kill(service.pid, signal.SIGCONT)
        async with asyncio.timeout(50):
            await asyncio.wait({attaching})
        server = attaching.result()
        async with session(Debugpy(), server, short) as address:
            await asyncio.to_thread(visit, address)
        await server.detach()
        stat = procfs.stat(service.pid)
        assert stat
        assert stat.state in "SR"
    finally:
        service.kill()
        service.communicate()


AGENT = """
import asyncio, pathlib, sys
from agent.debuggers import Target
from agent.debuggers.debugpy import Debugpy
from agent.process import Process
from agent.sessions import Doors, Ears, Session
from agent.terms import ORDINARY
from squash.logs import Log

async def main():
    directory = pathlib.Path(sys.argv[2])
    server = await Debugpy().attach(Target(Process.read(int(sys.argv[1])), directory / "t"))
    session = Session(server, "dap", Doors(directory / "c.sock"), Log("x"), ORDINARY, Ears(*4 * [lambda *_: None]))
    print(await session.listen(), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_killing_the_agent_at_a_breakpoint_sets_the_process_free(short: Path) -> None:
    (short / "t").mkdir()
    with debuggee() as service:
        before = service.ask("look"), service.outside()
        agent = subprocess.Popen(
            [sys.executable, "-c", AGENT, str(service.pid), str(short)], stdout=subprocess.PIPE, text=True
        )
        assert agent.stdout
        with agent, Dap(agent.stdout.readline().strip()) as client:
            client.attach({str(PROGRAM): [LINE]})
            service.tell("price 5")
            client.event("stopped")
            agent.send_signal(signal.SIGKILL)
        assert await asyncio.to_thread(service.answer) == {"price": 15}
        await Debugpy().recover(short / "t")
        assert await settled(service, before) == before
        (short / "c.sock").unlink()
        shutil.rmtree(short / "t")
        server = await Debugpy().attach(target(service.facts(), short))
        await server.detach()


async def test_the_end_of_the_process_ends_the_debug_server(short: Path) -> None:
    service = Debuggee(sys.executable, "select")
    server = await Debugpy().attach(target(service.facts(), short))
    service.process.kill()
    service.process.communicate()
    async with asyncio.timeout(20):
        await server.ended()
        await server.detach()
        with pytest.raises(ConnectionError):
            await server.connect()


async def test_an_attach_that_is_given_up_does_nothing_later(short: Path) -> None:
    """The main thread sits in C code that holds the interpreter; when it comes back, nobody wants the code any more."""
    code = "import re, sys; print('up', flush=True); re.match(r'(a+)+b', 'a' * 27)\n"
    code += "print('back', flush=True); sys.stdin.read()"
    service = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert service.stdout
    assert service.stdin
    with service:
        try:
            service.stdout.readline()
            process = Process.read(service.pid)
            assert process
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await Debugpy().attach(target(process, short))
            shutil.rmtree(short / "t")
            assert await asyncio.to_thread(service.stdout.readline) == "back\n"
            assert process.alive
            assert process.tracer == 0
            _, said = await asyncio.to_thread(service.communicate, "")
            assert (service.returncode, said) == (0, "")
        finally:
            service.kill()


async def test_a_process_that_is_traced_already_is_refused_by_name(short: Path) -> None:
    with debuggee() as service:
        code = f"import agent.ptrace as p, sys; p._ptrace(p.SEIZE, {service.pid})\n"
        code += "print('on', flush=True); sys.stdin.read()"
        tracer = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert tracer.stdout
        with tracer:
            assert tracer.stdout.readline() == "on\n"
            with pytest.raises(SquashError, match=f"traced by process {tracer.pid}") as refusal:
                await Debugpy().attach(target(service.facts(), short))
            assert refusal.value.reason is Reason.TRACED_BY_OTHER
            tracer.communicate("")


async def test_what_is_no_python_is_refused(short: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        process = Process.read(sleeper.pid)
        assert process
        assert Debugpy().claim(process) < 0
        with pytest.raises(SquashError, match="no CPython") as refusal:
            await Debugpy().attach(target(process, short))
        assert refusal.value.reason is Reason.DEBUGGER_UNSUITED
    finally:
        sleeper.kill()
        sleeper.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process of another user")
async def test_a_user_who_cannot_reach_the_files_is_told_which(short: Path) -> None:
    """mkdtemp makes directories of the caller alone, so another user cannot reach the socket in it."""
    sleeper = subprocess.Popen(
        ["/usr/bin/env", "python3", "-c", "import time; print('up', flush=True); time.sleep(1000)"],
        user=65534,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
    )
    try:
        assert sleeper.stdout
        assert sleeper.stdout.readline() == "up\n"
        process = Process.read(sleeper.pid)
        assert process
        with pytest.raises(SquashError, match=f"of user 65534 cannot reach '{short}'") as refusal:
            await Debugpy().attach(target(process, short))
        assert refusal.value.reason is Reason.FILES_UNREADABLE
    finally:
        sleeper.kill()
        sleeper.communicate()


def test_claims() -> None:
    me = Process.read(os.getpid())
    assert me
    assert Debugpy().claim(me) > 0.5


def test_the_code_inside_is_valid_for_the_oldest_python() -> None:
    for source in INSIDE:
        compile(source.read_text(), str(source), "exec")
        assert json.dumps(source.read_text()).isascii()

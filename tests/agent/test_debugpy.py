"""debugpy in processes that run: the real injection, the real adapter, a real client."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from agent.debuggers.debugpy import INSIDE, Debugpy
from agent.process import Process
from agent.terms import Terms
from demo.dap import Dap, DapError
from squash import procfs
from squash.tasks import spawn

from .pythons import pythons
from .targets import PROGRAM, ROOMS, debuggee, session, target
from .visits import LINE, settled, stop_at_price, visit

pytestmark = pytest.mark.usefixtures("quiet")


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


def test_claims() -> None:
    me = Process.read(os.getpid())
    assert me
    assert Debugpy().claim(me) > 0.5


def test_the_code_inside_is_valid_for_the_oldest_python() -> None:
    for source in INSIDE:
        compile(source.read_text(), str(source), "exec")
        assert json.dumps(source.read_text()).isascii()

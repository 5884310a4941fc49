"""How debugpy's time in a process ends: by its client, the agent, the process, or before it has begun."""

import asyncio
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.debuggers.debugpy import Debugpy
from agent.process import Process
from agent.terms import Terms
from demo.dap import Dap
from tests.drivers.dap import until_closed

from .targets import PROGRAM, Debuggee, debuggee, session, target
from .visits import LINE, settled, stop_at_price

pytestmark = pytest.mark.usefixtures("quiet")
STOPS = [("disconnect", {"terminateDebuggee": True}), ("terminate", {}), ("disconnect", {"suspendDebuggee": True})]
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

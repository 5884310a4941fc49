"""The debugger plug-in for JVMs, with a real one behind it."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.debuggers import Target
from agent.debuggers.jdwp import Java
from agent.protocols.jdwp_packets import HANDSHAKE, NOT_IMPLEMENTED
from agent.sessions import Doors, Ears, Session
from agent.terms import ORDINARY, Terms
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason
from squash.tasks import spawn
from squash.tunnel import Guest
from tests.agent.java import (
    ALL,
    EVENT_THREAD,
    JDWP,
    LISTENS,
    PATIENCE,
    REBATE,
    SLEEPS,
    Debugger,
    Jvm,
    free_port,
    jvm,
    runs,
    sleeps,
)
from tests.agent.native import until
from tests.agent.targets import DEAF

DISPOSE, SUSPEND, RESUME, EXIT = (1, 6), (1, 8), (1, 9), (1, 10)
SET_VALUES = (16, 2)
_MAY = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True, check=False).returncode == 0
may_sleep = pytest.mark.skipif(not sleeps(), reason="takes a Java that knows onjcmd=y")
own_namespaces = pytest.mark.skipif(not _MAY, reason="takes the right to make namespaces")


@asynccontextmanager
async def session(running: Jvm, short: Path, terms: Terms = ORDINARY) -> AsyncIterator[tuple[Path, asyncio.Event]]:
    """The socket of a debugger in the service, as an agent offers it; and when the ready gate opens."""
    debugger, ready = Java(), asyncio.Event()
    server = await debugger.attach(Target(running.process, short))
    path = short / "client.sock"
    ears = Ears(lambda _: None, lambda: None, lambda _: ready.set(), lambda _, __: None)
    served = Session(server, "jdwp", Doors(path), Log("test"), terms, ears)
    await served.listen()
    async with asyncio.TaskGroup() as group:
        work = group.create_task(served.run(60, 60))
        yield path, ready
        work.cancel()
    await server.detach()
    forget(debugger)


def forget(debugger: Java) -> None:
    """As at the end of an agent."""
    for connection in list(debugger._kept.values()):
        connection.end()


FORMS = {
    "host and port": ([f"{LISTENS},address=127.0.0.1:PORT"], {}),
    "port alone": ([f"{LISTENS},address=PORT"], {}),
    "a name": ([f"{LISTENS},address=localhost:PORT"], {}),
    "every interface": ([f"{LISTENS},address=*:PORT"], {}),
    "a port of its own choice": ([f"{LISTENS},address=127.0.0.1:0"], {}),
    "another on loopback besides": ([f"{LISTENS},address=127.0.0.1:0", "-Djava.net.preferIPv4Stack=true"], {}),
    "no address": ([LISTENS], {}),
    "the old form": (["-Xdebug", "-Xrunjdwp:transport=dt_socket,server=y,suspend=n,quiet=y,address=PORT"], {}),
    "JAVA_TOOL_OPTIONS": ([], {"JAVA_TOOL_OPTIONS": f"-Dx=y {LISTENS},address=127.0.0.1:PORT"}),
    "JDK_JAVA_OPTIONS": ([], {"JDK_JAVA_OPTIONS": f"{LISTENS},address=127.0.0.1:PORT"}),
    "_JAVA_OPTIONS": ([], {"_JAVA_OPTIONS": f"'{LISTENS},address=127.0.0.1:PORT'"}),
    "a file of arguments": (["@FILE"], {}),
}


@pytest.mark.parametrize("form", FORMS)
async def test_jdwp_is_found_and_given_back_as_it_was(classes: Path, short: Path, form: str) -> None:
    port, file = str(free_port()), short / "arguments"
    file.write_text(f"# of java\n-Dx='y z' {LISTENS},address=127.0.0.1:{port}\n")
    options, environment = FORMS[form]
    given = [word.replace("PORT", port).replace("FILE", str(file)) for word in options]
    env = {name: text.replace("PORT", port) for name, text in environment.items()}
    with jvm(classes, *given, environment=env) as running:
        before = running.ports
        assert len(before) == 1
        target = Target(running.process, short)
        server = await Java().attach(target)
        await until(lambda: not running.ports)  # whoever has it keeps others out
        assert [(each.strategy, each.reason) for each in target.attempts] == [("JDWP that listens", None)]
        await runs(running)
        await server.detach()
        await server.detach()
        [(host, now)], [(was, _)] = running.ports, before
        assert host == was
        chosen = "PORT" in f"{options}{environment}" or "@FILE" in options
        assert now == int(port) or not chosen
        await runs(running)


async def test_it_debugs(classes: Path, short: Path) -> None:
    """A request waits at a breakpoint; its variables are read, one is changed, and it goes on with that."""
    with jvm(classes, JDWP) as running:
        async with session(running, short) as (path, ready):
            client = await Debugger.at(path)
            assert not ready.is_set()
            await client.stop_in_price()
            async with asyncio.timeout(PATIENCE):
                await ready.wait()
            call = spawn(running.price(3), "call")
            hit = await client.hit()
            variables = await client.variables(hit)
            assert {name: value for name, (_, _, value) in variables.items()} == {"count": 3, "each": 7, "total": 21}
            frame, slot, _ = variables["total"]
            await client.done(SET_VALUES, client.assignment(hit, frame, slot, 42))
            await client.done(RESUME)
            assert await call == 42
            await client.done(DISPOSE)
            await client.over()
            await runs(running)


async def test_a_breakpoint_in_a_class_that_is_not_loaded_yet(classes: Path, short: Path) -> None:
    with jvm(classes, JDWP) as running:
        async with session(running, short) as (path, ready):
            client = await Debugger.at(path)
            await client.await_class("Rebate")
            await client.done(RESUME)
            assert ready.is_set(), "nobody waits for silence when the client lets it run"
            call = spawn(running.price(100, "rebate"), "call")
            async with asyncio.timeout(PATIENCE):
                while not client.others:
                    await client.ask((1, 1))
            await client.stop_at(await client.place("Rebate", "of", REBATE))
            await client.done(RESUME)
            await client.hit()
            await client.vanish()
            assert await call == 10


async def test_a_takeover_lets_run_what_the_first_one_had_stopped(classes: Path, short: Path) -> None:
    with jvm(classes, JDWP) as running:
        debugger = Java()
        server = await debugger.attach(Target(running.process, short))
        served = Session(server, "jdwp", Doors(short / "c.sock"), Log("test"), ORDINARY, DEAF)
        await served.listen()
        first = Debugger(await served.enter(Guest(client="ann@desk")))
        await first.greet()
        await first.stop_in_price()
        call = spawn(running.price(3), "call")
        await first.hit()
        second = Debugger(await served.enter(Guest(client="bob@desk", takeover=True)))
        async with asyncio.timeout(10):
            assert await call == 21
        await second.greet()
        await second.stop_in_price()
        await first.over()
        await second.vanish()
        await served.close()
        await server.detach()
        forget(debugger)
        await runs(running)


@pytest.mark.parametrize("policy", [EVENT_THREAD, ALL])
async def test_whoever_vanishes_leaves_nobody_standing(classes: Path, short: Path, policy: int) -> None:
    with jvm(classes, JDWP) as running:
        async with session(running, short) as (path, _):
            for _ in range(2):
                client = await Debugger.at(path)
                await client.stop_in_price(policy)
                call = spawn(running.price(3), "call")
                await client.hit()
                for _ in range(3):
                    await client.done(SUSPEND)
                await client.vanish()
                async with asyncio.timeout(10):
                    assert await call == 21
                await runs(running)


@may_sleep
async def test_nobody_gets_in_beside_the_agent(classes: Path, short: Path) -> None:
    """A JVM that was woken stays closed while the agent lives: before, with, between and after clients."""
    with jvm(classes, SLEEPS) as running:
        assert not running.ports
        debugger, target = Java(), Target(running.process, short)
        server = await debugger.attach(target)
        await until(lambda: not running.ports)
        for _ in range(2):
            client = Debugger(await server.connect())
            await client.done((1, 1))
            await until(lambda: not running.ports)
            await client.vanish()
            await server.disconnected()
            await until(lambda: not running.ports)
        await server.detach()
        await until(lambda: not running.ports)
        again = await debugger.attach(target)
        assert await Debugger(await again.connect()).done((1, 1))
        await until(lambda: not running.ports)
        running.child.kill()
        async with asyncio.timeout(PATIENCE):
            await again.ended()
        with pytest.raises(ConnectionError, match="is gone"):
            await again.connect()
        await again.disconnected()
        await again.detach()
        running.over = True


async def test_another_debugger_is_named(classes: Path, short: Path) -> None:
    port = free_port()
    with jvm(classes, f"{LISTENS},address={port}") as running, socket.create_connection(("127.0.0.1", port)) as other:
        other.sendall(HANDSHAKE)
        assert other.recv(len(HANDSHAKE)) == HANDSHAKE
        await until(lambda: not running.ports)
        target = Target(running.process, short)
        where = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(SquashError, match=where) as refused:
            await Java().attach(target)
        assert refused.value.reason is Reason.TRACED_BY_OTHER
        assert target.attempts[0].reason is Reason.TRACED_BY_OTHER


async def test_one_who_comes_between_two_clients_is_named(classes: Path, short: Path) -> None:
    port = free_port()
    with jvm(classes, f"{LISTENS},address={port}") as running:
        server = await Java().attach(Target(running.process, short))
        stream = await server.connect()
        await until(lambda: not running.ports)
        stream.writer.transport.abort()
        await until(lambda: running.ports)
        with socket.create_connection(("127.0.0.1", port)) as other:
            other.sendall(HANDSHAKE)
            assert other.recv(len(HANDSHAKE)) == HANDSHAKE
            await server.disconnected()
            with pytest.raises(ConnectionError, match="another debugger from 127"):
                await server.connect()
        assert await Debugger(await server.connect()).done((1, 1))
        await server.detach()


@may_sleep
async def test_one_that_does_without_signals_is_woken(classes: Path, short: Path) -> None:
    with jvm(classes, SLEEPS, "-Xrs") as running:
        async with session(running, short) as (path, _):
            client = await Debugger.at(path)
            await client.done(DISPOSE)
            await client.over()


BOX = f"""
{sys.executable} -c 'from tests.agent.scan import loopback_up; loopback_up()'
mount --bind "$1" /mnt
mount -t tmpfs -o mode=1777 none /tmp
cd /tmp
mount -o remount,bind,ro /
$2
shift 2
exec setpriv --reuid 1000 --regid 1000 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""


def boxed(classes: Path, more: str = "true") -> list[str]:
    """Starts what comes behind in namespaces of its own, as user 1000 without rights, on a read-only root."""
    return [
        *("unshare", "--mount", "--pid", "--net", "--fork", "--mount-proc", "sh", "-ec", BOX, "sh"),
        str(classes),
        more,
    ]


@own_namespaces
async def test_it_debugs_in_a_container(classes: Path, short: Path) -> None:
    with jvm(Path("/mnt"), JDWP, before=boxed(classes)) as running:
        async with session(running, short) as (path, ready):
            client = await Debugger.at(path)
            await client.stop_in_price()
            async with asyncio.timeout(PATIENCE):
                await ready.wait()
            call = spawn(running.price(3), "call")
            hit = await client.hit()
            assert (await client.variables(hit))["total"][2] == 21
            await until(lambda: not running.ports)
            await client.vanish()
            assert await call == 21
        left = [entry.name for entry in (running.process.root / "tmp").iterdir()]
        assert [name for name in left if name.startswith(".attach")] == []


@may_sleep
@own_namespaces
async def test_a_read_only_tmp_is_named(classes: Path, short: Path) -> None:
    with jvm(Path("/mnt"), SLEEPS, before=boxed(classes, "mount -o remount,ro /tmp")) as running:
        with pytest.raises(SquashError, match="its /tmp is read-only; mount an empty directory") as refused:
            await Java().attach(Target(running.process, short))
        assert refused.value.reason is Reason.DEBUGGER_UNSUITED
        await runs(running)


AGENT = """
import asyncio, sys
from pathlib import Path
from agent.debuggers import Target
from agent.debuggers.jdwp import Java
from agent.preflight.finding import Level
from agent.preflight.run import examine
from agent.process import Process
from tests.agent.java import Debugger
async def main():
    pid, place = sys.argv[1:]
    server = await Java().attach(Target(Process.read(int(pid)), Path(place)))
    client = Debugger(await server.connect())
    await client.stop_in_price()
    print("there", flush=True)
    await client.hit()
    print("hit", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


@pytest.mark.parametrize("options", sorted({f"{LISTENS},address=127.0.0.1:0", JDWP}))
async def test_an_agent_is_killed_at_a_breakpoint(classes: Path, short: Path, options: str) -> None:
    with jvm(classes, options) as running:
        argv = [sys.executable, "-c", AGENT, str(running.pid), str(short)]
        agent = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
        assert agent.stdout
        assert await asyncio.wait_for(agent.stdout.readline(), PATIENCE) == b"there\n"
        call = spawn(running.price(3), "call")
        assert await asyncio.wait_for(agent.stdout.readline(), PATIENCE) == b"hit\n"
        agent.kill()
        async with asyncio.timeout(10):
            assert await call == 21
        await agent.wait()
        await runs(running)
        debugger = Java()
        await debugger.recover(short)
        server = await debugger.attach(Target(running.process, short))
        assert await Debugger(await server.connect()).done((1, 1))
        await server.detach()
        forget(debugger)


async def test_ending_the_process_becomes_a_detach(classes: Path, short: Path) -> None:
    with jvm(classes, JDWP) as running:
        async with session(running, short) as (path, _):
            client = await Debugger.at(path)
            await client.stop_in_price()
            await client.done(EXIT, bytes(4))
            await client.over()
            await runs(running)
        async with session(running, short, Terms(allow_terminate=True)) as (path, _):
            client = await Debugger.at(path)
            client.say(EXIT, (7).to_bytes(4, "big"))
            assert await asyncio.to_thread(running.child.wait, PATIENCE) == 7
            await client.over()
        running.over = True


async def test_who_only_looks_sees_everything_and_changes_nothing(classes: Path, short: Path) -> None:
    with jvm(classes, JDWP) as running:
        async with session(running, short, Terms(read_only=True)) as (path, _):
            client = await Debugger.at(path)
            await client.stop_in_price()
            call = spawn(running.price(3), "call")
            hit = await client.hit()
            frame, slot, total = (await client.variables(hit))["total"]
            assert total == 21
            error, _ = await client.ask(SET_VALUES, client.assignment(hit, frame, slot, 42))
            assert error == NOT_IMPLEMENTED
            await client.done(RESUME)
            assert await call == 21
            await client.vanish()

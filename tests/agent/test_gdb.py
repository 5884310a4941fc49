"""The debugger plug-in for native programs, with gdb itself as the client."""

import asyncio
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent import ptrace, sessions
from agent.debuggers.gdb import Gdb, check
from agent.denied import denied
from agent.process import Process
from agent.sessions import Doors, Ears, Session
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason
from squash.tunnel import Guest
from tests.agent.native import Client, Service, build, service, until
from tests.agent.targets import DEAF


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("native"))


@pytest.fixture
async def running(program: Path, short: Path) -> AsyncIterator[Service]:
    async with service(program, short) as found:
        yield found


@asynccontextmanager
async def session(running: Service, terms: Terms = ORDINARY, ears: Ears = DEAF) -> AsyncIterator[Path]:
    """The socket of a debugger in the service, as an agent offers it."""
    server = await Gdb().attach(running.target)
    path = running.directory / "client.sock"
    served = Session(server, "gdb", Doors(path), Log("test"), terms, ears)
    await served.listen()
    async with asyncio.TaskGroup() as group:
        work = group.create_task(served.run(60, 60))
        yield path
        work.cancel()
    await server.detach()


async def gdb(running: Service, path: Path, *commands: str) -> asyncio.subprocess.Process:
    """gdb with these commands; after them it waits for more."""
    given = [word for command in (f"target remote {path}", *commands) for word in ("-ex", command)]
    start = ("gdb", "-nx", "-q", "-ex", "set confirm off", "-ex", "set sysroot /", *given, str(running.program))
    pipe = subprocess.PIPE
    return await asyncio.create_subprocess_exec(*start, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)


async def test_nobody_stops_the_process_without_a_word(running: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "STANDING", 1.0)
    server = await Gdb().attach(running.target)
    served = Session(server, "gdb", Doors(running.directory / "client.sock"), Log("test"), ORDINARY, DEAF)
    silent = await served.enter(Guest(client="probe"))
    await running.is_free()
    assert not running.debuggers()
    silent.writer.write(b"+")  # a word, and then none: what a debugger's client never does
    await until(lambda: running.process.tracer)
    await asyncio.wait_for(silent.reader.read(), 20)
    await running.is_free()
    await silent.close()
    client = Client(await served.enter(Guest(client="eve", looks_only=True)))
    await client.greet()
    await asyncio.wait_for(client.stream.reader.read(), 20)
    await running.is_free()
    await client.stream.close()
    client = Client(await served.enter(Guest(client="ann")))
    await client.greet()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(client.stream.reader.read(), 1.5)  # an owner may think
    assert running.process.tracer
    await client.stream.close()
    await served.close()
    await server.detach()
    await until(lambda: not running.debuggers())


async def reached(client: asyncio.subprocess.Process) -> None:
    """Reads what gdb prints until it says REACHED."""
    assert client.stdout
    async with asyncio.timeout(30):
        while b"reached" not in (line := await client.stdout.readline()):
            assert line, "gdb ended"


async def killed(client: asyncio.subprocess.Process) -> None:
    client.kill()
    await client.communicate()


STOP = ("break seldom", "continue")
REACHED = "shell echo reached"


@pytest.mark.parametrize("parting", ["detach", "kill", "disconnect", "monitor exit"])
async def test_gdb_debugs_and_parts(running: Service, parting: str) -> None:
    address = running.address("seldom")
    async with session(running) as path:
        client = await gdb(running, path, *STOP, "bt", "print x", "set var knob=41", "delete", parting, "quit")
        assert client.stdout
        out = await asyncio.wait_for(client.stdout.read(), 60)
        await client.communicate()
        assert b"seldom (x=1)" in out
        assert b"in main" in out
        assert b"$1 = 1" in out
        await running.is_free(address)
        await until(lambda: running.answer == 42)
        await until(lambda: not running.debuggers())


async def test_a_kill_kills_where_that_is_allowed(running: Service) -> None:
    async with session(running, Terms(allow_terminate=True)) as path:
        client = await gdb(running, path, *STOP, "kill", "quit")
        await asyncio.wait_for(client.communicate(), 60)
        assert await asyncio.to_thread(running.child.wait, 20) == -signal.SIGKILL
        await until(lambda: not running.debuggers())


async def test_who_only_looks_sees_everything_and_changes_nothing(running: Service) -> None:
    address = running.address("seldom")
    changes = ("set var knob=41", "print $rax=5", "jump main", "signal SIGKILL", "call (int)never(3)", "print x=9")
    async with session(running, Terms(read_only=True)) as path:
        wishes = [word for change in changes for word in (change, "echo next\\n")]
        client = await gdb(
            running, path, *STOP, "bt", "print x", "print knob", *wishes, "stepi", "delete", "kill", "quit"
        )
        assert client.stdout
        out = await asyncio.wait_for(client.stdout.read(), 60)
        await client.communicate()
        assert b"$1 = 1" in out
        assert b"$2 = 7" in out
        assert out.count(b"next\n") == len(changes), out.decode()
        await running.is_free(address)
        await until(lambda: not running.debuggers())
        assert running.answer == 8
        assert running.child.poll() is None


@pytest.mark.parametrize(
    ("commands", "goes"),
    [
        (("break *seldom", "continue", REACHED), False),
        (("set breakpoint always-inserted on", "break *seldom", "continue", REACHED), False),
        (("break *never", REACHED, "continue"), True),
        (("break *seldom if $rdi == 2", REACHED, "continue"), True),
    ],
)
async def test_gdb_is_killed_again_and_again(running: Service, commands: tuple[str, ...], goes: bool) -> None:
    addresses = running.address("seldom"), running.address("never")
    async with session(running) as path:
        for _ in range(3):
            client = await gdb(running, path, *commands)
            await reached(client)
            if goes:
                await until(lambda: b"\xcc" in [running.byte(address) for address in addresses])
            await killed(client)
            await running.is_free(*addresses)
            await until(lambda: not running.debuggers())


async def test_a_watchpoint_goes_with_its_client(running: Service) -> None:
    async with session(running) as path:
        client = await gdb(running, path, "watch knob", REACHED, "continue")
        await reached(client)
        await killed(client)
        await running.is_free()
        await until(lambda: not running.debuggers())


async def test_nothing_is_traced_before_a_client_comes(running: Service) -> None:
    server = await Gdb().attach(running.target)
    await running.is_free()
    assert not running.debuggers()
    await server.detach()
    await server.detach()


async def test_it_ends_with_the_process(running: Service) -> None:
    server = await Gdb().attach(running.target)
    running.child.kill()
    await asyncio.wait_for(server.ended(), 10)
    with pytest.raises(ConnectionError, match="is gone"):
        await server.connect()
    await server.detach()


async def test_attempts_are_told(running: Service) -> None:
    target = running.target
    await (await Gdb().attach(target)).detach()
    with pytest.raises(SquashError, match="not on the agent's PATH") as caught:
        await Gdb("no-such-gdbserver").attach(target)
    assert caught.value.reason is Reason.DEBUGGER_MISSING
    assert [(a.strategy, a.reason) for a in target.attempts] == [
        ("gdbserver", None),
        ("gdbserver", Reason.DEBUGGER_MISSING),
    ]


@pytest.fixture
async def traced(running: Service) -> AsyncIterator[Service]:
    """A service that this very process traces."""
    held, done = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def trace() -> None:
        with ptrace.Stopped(running.child.pid, ctypes.c_ulonglong * 64):
            loop.call_soon_threadsafe(held.set)
            asyncio.run_coroutine_threadsafe(done.wait(), loop).result()

    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(trace))
        await held.wait()
        yield running
        done.set()


async def test_another_tracer_is_named(traced: Service) -> None:
    with pytest.raises(SquashError, match=r"traced by process \d+") as caught:
        check(traced.process)
    assert caught.value.reason is Reason.TRACED_BY_OTHER


async def test_a_tracer_that_comes_later_keeps_the_client_out(running: Service) -> None:
    server = await Gdb().attach(running.target)
    with subprocess.Popen(["gdbserver", "--attach", "-", str(running.child.pid)], stderr=subprocess.PIPE) as other:
        assert other.stderr
        assert b"Attached" in other.stderr.readline()
        with pytest.raises(ConnectionError):
            await server.connect()
        other.kill()
    await server.detach()
    await running.is_free()


def test_a_process_that_is_gone_cannot_be_debugged() -> None:
    child = subprocess.Popen(["sleep", "60"])
    process = Process.read(child.pid)
    child.kill()
    child.wait()
    assert process
    with pytest.raises(SquashError) as caught:
        check(process)
    assert caught.value.reason is Reason.PROCESS_GONE
    assert Gdb().claim(process) == -1


@pytest.mark.parametrize(("scope", "reason"), [("0", Reason.PTRACE_DENIED), ("3", Reason.PTRACE_SCOPE)])
async def test_a_refusal_says_what_refused(running: Service, tmp_path: Path, scope: str, reason: Reason) -> None:
    yama = tmp_path / "ptrace_scope"
    yama.write_text(f"{scope}\n")
    assert denied(running.process, yama).reason is reason
    assert denied(running.process, tmp_path / "none").reason is Reason.PTRACE_DENIED


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become somebody else")
def test_somebody_elses_process_is_denied() -> None:
    code = (
        "import os, sys; from pathlib import Path\n"
        "from agent.debuggers.gdb import Gdb, check; from agent.process import Process\n"
        "process = Process.read(os.getppid()); os.setuid(65534)\n"
        "try: check(process)\n"
        "except Exception as error: print(error.reason)\n"
        "print(Gdb().claim(process))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["ptrace_denied", "0.05"]


async def test_native_programs_are_claimed_and_others_left_to_theirs(running: Service, tmp_path: Path) -> None:
    assert Gdb().claim(running.process) == 0.5
    python = Process.read(os.getpid())
    assert python
    assert Gdb().claim(python) <= 0.1
    shell = subprocess.Popen(["sh", "-c", "read x"], stdin=subprocess.PIPE)
    process = Process.read(shell.pid)
    assert process
    await until(lambda: Gdb().claim(Process.read(shell.pid) or process) == 0.01)
    shell.communicate(b"\n")
    assert Gdb().claim(replace(process, pid=2, exe="")) == -1  # a kernel thread, or no process at all


@pytest.mark.skipif(shutil.which("gofmt") is None, reason="takes a Go program to run; Go's own formatter is one")
async def test_go_programs_are_left_to_a_debugger_for_go() -> None:
    child = subprocess.Popen(["gofmt"], stdin=subprocess.PIPE)
    process = Process.read(child.pid)
    assert process
    await until(lambda: Gdb().claim(process) == 0.2)
    child.communicate(b"")


async def test_a_breakpoint_that_cannot_be_is_told_when_the_gate_opens(running: Service) -> None:
    """A processor watches some places at once, and no more."""
    told: asyncio.Queue[str] = asyncio.Queue()
    ears = replace(DEAF, ready=told.put_nowait)
    address = running.address("never")
    async with session(running, ears=ears) as path:
        client = Client(Stream(*await asyncio.open_unix_connection(path)))
        await client.greet()
        while await client.ask(b"Z1,%x,1" % address) == b"OK":
            address += 4
        client.say(b"vCont;c")
        assert await asyncio.wait_for(told.get(), 20) == f"breakpoints that gdbserver did not take: {address:#x}"
        await client.stream.close()
        await until(lambda: not running.debuggers())
    await running.is_free()

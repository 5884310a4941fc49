"""The debugger plug-in for Go, with a real delve on a real service."""

import asyncio
import os
import socket
import stat
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent import traps
from agent.debuggers import choose
from agent.debuggers.debugpy import Debugpy
from agent.debuggers.delve import Delve, DelveServer, Installed, judge
from agent.debuggers.gdb import Gdb
from agent.delve_start import NETWORK, SOCKET, UNIX
from agent.gobinary import GoProgram
from agent.preflight.finding import refusal, warnings
from agent.preflight.run import examine
from agent.process import Process
from agent.streams import Stream
from agent.terms import Terms
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason
from tests.agent.delve_client import DapClient, Rpc
from tests.agent.goservice import BREAK, SOURCE, GoService, delve, go_service, provided
from tests.agent.leaves import dial, session
from tests.agent.native import until


@pytest.fixture
async def running(short: Path) -> AsyncIterator[GoService]:
    async with go_service(short) as found:
        yield found


async def test_its_own_protocol(running: GoService) -> None:
    async with session(running) as path:
        client = Rpc(await dial(path))
        assert (await client.ask("GetVersion"))["APIVersion"] == 2
        await client.break_at()
        client.say("Command", name="continue")
        request = running.begin(running.price(5))
        state = await client.stop()
        assert state["currentThread"]["line"] == BREAK
        assert (await client.args())["amount"] == "5"
        scope = {"GoroutineID": -1, "Frame": 0}
        await client.ask("Set", Scope=scope, Symbol="total", Value="41")
        client.say("Command", name="continue")
        assert await request == 41
        # It runs: that alone would make delve wait for its next stop.
        assert await client.ask("Detach", Kill=True) == {}
        await client.stream.close()
        await running.is_free()
        await until(lambda: not running.debuggers())


async def test_dap(running: GoService) -> None:
    async with session(running) as path:
        client = DapClient(await dial(path))
        await client.begin()
        request = running.begin(running.price(5))
        stopped = await client.event("stopped")
        assert stopped["reason"] == "breakpoint"
        frames = (await client.ask("stackTrace", threadId=stopped["threadId"]))["stackFrames"]
        assert frames[0]["line"] == BREAK
        scopes = (await client.ask("scopes", frameId=frames[0]["id"]))["scopes"]
        names = (await client.ask("variables", variablesReference=scopes[0]["variablesReference"]))["variables"]
        assert {each["name"]: each["value"] for each in names}["total"] == "15"
        where = scopes[0]["variablesReference"]
        await client.ask("setVariable", variablesReference=where, name="total", value="41")
        await client.ask("continue", threadId=stopped["threadId"])
        assert await request == 41
        await client.ask("disconnect", terminateDebuggee=True)
        await client.stream.close()
        await running.is_free()
        await until(lambda: not running.debuggers())


async def test_who_only_looks_changes_nothing(running: GoService) -> None:
    async with session(running, Terms(read_only=True)) as path:
        client = Rpc(await dial(path))
        await client.break_at()
        client.say("Command", name="continue")
        request = running.begin(running.price(5))
        await client.stop()
        scope = {"GoroutineID": -1, "Frame": 0}
        assert (await client.ask("Eval", Scope=scope, Expr="amount+1", Cfg={}))["Variable"]["value"] == "6"
        client.say("Set", Scope=scope, Symbol="total", Value="41")
        refusal = await client.answer()
        assert "read_only" in refusal["error"]
        client.say("Command", name="call", expr="main.never(1)", ReturnInfoLoadConfig={})
        assert "read_only" in (await client.answer())["error"]
        await client.stream.close()
        assert await request == 15
        await running.is_free()
        await until(lambda: not running.debuggers())


async def test_breakpoints_come_back_with_their_client(running: GoService) -> None:
    async with session(running) as path:
        first = Rpc(await dial(path))
        await first.break_at()
        first.say("Command", name="continue")
        await first.stream.writer.drain()
        first.stream.writer.transport.abort()
        await until(lambda: not running.debuggers())
        await running.is_free()
        again = Rpc(await dial(path))
        assert not (await again.ask("State", NonBlocking=True))["State"]["Running"]
        again.say("Command", name="continue")
        request = running.begin(running.price(5))
        assert (await again.stop())["currentThread"]["line"] == BREAK
        await again.stream.close()
        assert await request == 15
        await until(lambda: not running.debuggers())


@pytest.mark.parametrize("way", [UNIX, NETWORK])
async def test_nobody_else_reaches_it(running: GoService, way: str) -> None:
    debugger = Delve(delve(), (way,))
    try:
        server = await debugger.attach(running.target)
    except SquashError as error:
        pytest.skip(error.message)
    client = Rpc(await server.connect())
    await client.break_at()
    assert not procfs.listening(running.guard())
    assert [f"http://{host}:{port}" for host, port in procfs.listening(running.pid)] == [running.url]
    if way == UNIX:
        assert not procfs.listening(running.delve())
        assert stat.S_IMODE(running.place.stat().st_mode) == 0o700
    else:
        assert procfs.namespace(running.delve(), "net") != procfs.namespace(os.getpid(), "net")
    await client.stream.close()
    await server.disconnected()
    await running.is_free()
    await server.detach()


@pytest.mark.parametrize("gone", ["delve", "guard"])
async def test_a_connection_that_nobody_wants_is_closed(running: GoService, gone: str) -> None:
    server = DelveServer(running.target, delve(), UNIX)
    ours, theirs = socket.socketpair()
    line = Stream(*await asyncio.open_unix_connection(sock=ours))
    theirs.close()
    before = descriptors()
    with socket.socket(socket.AF_UNIX) as door:
        if gone == "guard":
            door.bind(str(running.place / SOCKET))
            door.listen()
        with pytest.raises(OSError) as caught:  # noqa: PT011 - FileNotFoundError or BrokenPipeError
            await server._dial(line, "attached 1")
        # As long as the failure is told of, everything in its frames is alive.
        assert isinstance(caught.value, BrokenPipeError if gone == "guard" else FileNotFoundError)
        assert descriptors() == before + 1
    await line.close()
    await server.detach()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_nothing_is_traced_before_a_client_comes(running: GoService) -> None:
    target = running.target
    assert refusal(examine(Delve(delve()), running.process)) is None
    server = await Delve(delve()).attach(target)
    await running.is_free()
    assert not running.debuggers()
    assert target.attempts[-1].reason is None
    await server.detach()
    await server.detach()


async def test_files_that_cannot_be_reached_hold_up_nobody(running: GoService, monkeypatch: pytest.MonkeyPatch) -> None:
    server, reached = await Delve(delve()).attach(running.target), threading.Event()

    def hang(pid: int) -> dict[int, bytes]:
        reached.wait()
        return {}

    try:
        with monkeypatch.context() as patch:
            patch.setattr(traps, "find", hang)
            patch.setattr("agent.debuggers.delve.LOOK", 0.1, raising=False)
            async with asyncio.timeout(10):
                with pytest.raises(ConnectionError, match="cannot be read"):
                    await server.connect()
            assert not running.debuggers()
    finally:
        reached.set()
    await (await server.connect()).close()
    await server.detach()
    await running.is_free()


async def test_it_ends_with_the_process(running: GoService) -> None:
    server = await Delve(delve()).attach(running.target)
    client = Rpc(await server.connect())
    await client.break_at()
    client.say("Command", name="continue")
    running.child.kill()
    assert "exited" in str(await client.answer())
    await asyncio.wait_for(server.ended(), 10)
    await client.stream.close()
    await server.disconnected()
    with pytest.raises(ConnectionError, match="is gone"):
        await server.connect()
    await server.detach()


# -- what cannot be debugged ----------------------------------------------------------------------------


async def test_a_stripped_program_is_refused(short: Path) -> None:
    async with go_service(short, "stripped") as running:
        target = running.target
        assert refusal(examine(Delve(delve()), running.process))
        with pytest.raises(SquashError, match="could not open debug info") as caught:
            await Delve(delve()).attach(target)
        assert caught.value.reason is Reason.DEBUGGER_UNSUITED
        assert "-s -w" in caught.value.message
        assert target.attempts[0].reason is Reason.DEBUGGER_UNSUITED
        await running.is_free()


async def test_an_optimised_program_can_be_debugged(short: Path) -> None:
    async with go_service(short, "optimised") as running:
        assert "was optimised" in warnings(examine(Delve(delve()), running.process))
        server = await Delve(delve()).attach(running.target)
        client = Rpc(await server.connect())
        await client.break_at()
        await client.stream.close()
        await server.disconnected()
        await running.is_free()
        await server.detach()


async def test_without_delve_there_is_a_reason(running: GoService) -> None:
    target = running.target
    missing = refusal(examine(Delve("no-such-delve"), running.process))
    assert missing
    assert missing.reason is Reason.DEBUGGER_MISSING
    with pytest.raises(SquashError, match="go install") as caught:
        await Delve("no-such-delve").attach(target)
    assert caught.value.reason is Reason.DEBUGGER_MISSING
    assert [attempt.reason for attempt in target.attempts] == [Reason.DEBUGGER_MISSING]


@pytest.mark.parametrize(
    ("version", "built_with", "dwarf", "works"),
    [
        ((1, 20, 2), (1, 19), 4, True),
        ((1, 20, 2), (1, 19), 5, False),
        ((1, 27, 2), (1, 24), 5, False),
        ((1, 27, 2), (1, 26), 5, True),
        ((1, 27, 2), (), 5, True),
        ((1, 27, 2), (1, 26), 0, False),
    ],
)
async def test_delve_against_debug_information(
    running: GoService, version: tuple[int, ...], built_with: tuple[int, ...], dwarf: int, works: bool
) -> None:
    program, installed = GoProgram("go1.26.8", {}, dwarf), Installed("dlv", version, built_with)
    refused = refusal(judge(running.process, program, installed))
    assert (refused and refused.reason) is (None if works else Reason.DEBUGGER_UNSUITED)


async def test_an_old_delve_listens_in_a_network_of_its_own(running: GoService, tmp_path: Path) -> None:
    old = tmp_path / "dlv"
    old.write_text("#!/bin/sh\necho 'Version: 1.22.0'\n")
    old.chmod(0o755)
    target = running.target
    program = GoProgram.read(provided() / "service")
    assert program
    if program.dwarf >= 5:
        with pytest.raises(SquashError, match="DWARF 5"):
            await Delve(str(old)).attach(target)
        return
    server = await Delve(str(old)).attach(target)
    assert isinstance(server, DelveServer)
    assert [attempt.strategy for attempt in target.attempts] == [
        "delve on a unix socket",
        "delve in a network of its own",
    ]
    await server.detach()


async def test_a_delve_that_says_nothing_of_itself_is_refused(running: GoService, tmp_path: Path) -> None:
    odd = tmp_path / "dlv"
    odd.write_text("#!/bin/sh\necho what\n")
    odd.chmod(0o755)
    with pytest.raises(SquashError, match="does not say its version"):
        await Delve(str(odd)).attach(running.target)


async def test_go_programs_are_claimed_and_others_are_not(running: GoService) -> None:
    assert Delve().claim(running.process) == 0.9
    assert choose([Gdb(), Debugpy(), Delve()], running.process).name == "delve"
    python = Process.read(os.getpid())
    assert python
    assert Delve().claim(python) == -1


@pytest.mark.parametrize(
    ("name", "optimised", "debug"), [("service", False, True), ("optimised", True, True), ("stripped", True, False)]
)
def test_what_a_program_says_of_itself(name: str, optimised: bool, debug: bool) -> None:
    program = GoProgram.read(provided() / name)
    assert program
    assert program.version.startswith("go1.")
    assert program.optimised is optimised
    assert bool(program.dwarf) is debug


@pytest.mark.parametrize("text", [b"", b"\x7fELF", b"\x7fELF\x02\x01" + bytes(58), b"#!/bin/sh\n"])
def test_what_is_no_go_program_says_nothing(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "program"
    file.write_bytes(text)
    assert GoProgram.read(file) is None


def test_the_source_is_what_was_built() -> None:
    assert SOURCE.read_text().splitlines()[BREAK - 1].strip().startswith("return total")

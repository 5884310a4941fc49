"""A session's socket with real clients on it; the debugger behind it is a double that records what is asked of it."""

import asyncio
import os
import socket
import sys
from pathlib import Path

import pytest

from agent.sessions import Doors, Session
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash.logs import Log
from squash.options import Address
from squash.reasons import Reason
from squash.tunnel import Guest
from tests.agent.protocols.speech import messages, request
from tests.agent.targets import DEAF
from tests.agent.watched import CONTINUE, ME, Watched, serving


async def test_bytes_pass_and_the_gate_opens_once(short: Path) -> None:
    async with serving(short) as (watched, _):
        client = await watched.client()
        client.writer.write(b"$g#67")
        assert await client.reader.readexactly(5) == b"$g#67"
        assert await watched.told.get() == f"connected {ME}"
        client.writer.write(CONTINUE + CONTINUE)
        assert await client.reader.readexactly(10) == CONTINUE * 2
        assert await watched.told.get() == "ready"
        await client.close()
        await watched.debugger.left.acquire()
        assert await watched.told.get() == "left"
        assert watched.told.empty()


async def test_breakpoints_of_a_client_that_vanished_are_set_again_when_it_comes_back(short: Path) -> None:
    point = request(1, "setBreakpoints", source={"path": "/a.py"}, breakpoints=[{"line": 7}])
    async with serving(short, protocol="dap") as (watched, _):
        ann, bob = Guest(client="ann@desk"), Guest(client="bob@desk")
        first = await watched.session.enter(ann)
        first.writer.write(point)
        await first.reader.read(10_000)
        first.writer.transport.abort()
        await watched.debugger.left.acquire()
        again = await watched.session.enter(ann)
        again.writer.write(request(1, "configurationDone"))
        said = messages(await again.reader.read(10_000))
        assert {message.get("event") or message["command"] for message in said} >= {"output"}
        assert ("ann@desk", "client_left", "without a word") in watched.events
        again.writer.write(request(2, "disconnect"))
        await again.reader.read(10_000)
        await again.close()
        other = await watched.session.enter(bob)
        assert ("ann@desk", "client_left", "") in watched.events
        other.writer.write(request(1, "configurationDone"))
        assert [message["command"] for message in messages(await other.reader.read(10_000))] == ["configurationDone"]
        await other.close()


async def test_a_port_is_opened_where_it_is_wished_for(short: Path) -> None:
    watched = Watched(short)
    session = Session(
        watched.debugger, "gdb", Doors(short / "c.sock", Address("127.0.0.1", 0)), Log("test"), ORDINARY, DEAF
    )
    address = Address.parse(await session.listen())
    assert address.host == "127.0.0.1"
    client = Stream(*await asyncio.open_connection(*address))
    client.writer.write(b"hello")
    assert await client.reader.readexactly(5) == b"hello"
    await client.close()
    await session.close()
    await watched.debugger.detach()


async def test_no_door_stays_open_when_the_port_is_taken(short: Path) -> None:
    watched = Watched(short)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        session = Session(watched.debugger, "gdb", Doors(short / "c.sock", address), Log("test"), ORDINARY, DEAF)
        with pytest.raises(OSError, match="address already in use"):
            await session.listen()
    assert not (short / "c.sock").exists()
    assert all(not listener.is_serving() for listener in session._listeners)


async def test_a_client_that_cannot_be_followed_is_sent_away_and_comes_back_with_its_breakpoints(short: Path) -> None:
    set_ = request(3, "setBreakpoints", source={"path": "/a.py"}, breakpoints=[{"line": 7}])
    async with serving(short, protocol="dap") as (watched, _):
        client = await watched.session.enter(Guest(client="ann@desk"))
        client.writer.write(set_ + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}")
        *_, over = messages(await client.reader.read())
        assert over["event"] == "terminated"
        await client.close()
        again = await watched.session.enter(Guest(client="ann@desk"))
        assert ("ann@desk", "unfollowed", "the session was ended") in watched.events
        again.writer.write(request(1, "configurationDone"))
        said = await again.reader.read(10_000)
        assert b"/a.py" in said
        await again.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become somebody else")
async def test_other_users_do_not_get_in_by_the_port(short: Path) -> None:
    watched = Watched(short)
    session = Session(
        watched.debugger, "gdb", Doors(short / "c.sock", Address("127.0.0.1", 0)), Log("test"), ORDINARY, DEAF
    )
    address = Address.parse(await session.listen())
    code = (
        "import os, socket; 'x'.encode('idna'); os.setuid(65534); s = socket.socket(); s.settimeout(20)\n"
        f"try: s.connect({tuple(address)!r}); print(s.recv(9))\n"
        "except ConnectionError: print(b'')"
    )
    pipe = asyncio.subprocess.PIPE
    stranger = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=pipe)
    assert (await stranger.communicate())[0] == b"b''\n"
    await session.close()
    await watched.debugger.detach()


async def test_clients_may_come_one_after_another(short: Path) -> None:
    async with serving(short) as (watched, _):
        for _turn in range(3):
            client = await watched.client()
            client.writer.write(b"hello")
            assert await client.reader.readexactly(5) == b"hello"
            await client.close()
            await watched.debugger.left.acquire()
            assert [await watched.told.get() for _ in range(2)] == [f"connected {ME}", "left"]


async def test_a_client_that_comes_back_at_once_is_served(short: Path) -> None:
    async with serving(short) as (watched, _):
        for _turn in range(5):
            client = await watched.client()
            client.writer.write(b"hello")
            assert await client.reader.readexactly(5) == b"hello"
            client.writer.close()
        await client.close()


async def test_the_session_ends_with_the_debugger(short: Path) -> None:
    async with serving(short) as (watched, run):
        client = await watched.client()
        assert await watched.told.get() == f"connected {ME}"
        watched.debugger.died.set()
        assert await run is Reason.DEBUGGER_DIED
        assert await client.reader.read() == b""
        await client.close()


async def test_the_session_ends_when_nobody_comes(short: Path) -> None:
    async with serving(short, first_client=0.01) as (_, run):
        assert await run is Reason.CLIENT_GONE


async def test_the_session_ends_when_nobody_comes_back(short: Path) -> None:
    async with serving(short, client_grace=0.01) as (watched, run):
        client = await watched.client()
        assert await watched.told.get() == f"connected {ME}"
        assert not run.done()
        await client.close()
        assert await run is Reason.CLIENT_GONE


async def test_a_client_is_turned_away_when_the_debugger_cannot_be_reached(short: Path) -> None:
    async with serving(short) as (watched, _):
        watched.debugger.refuses = True
        client = await watched.client()
        assert await client.reader.read() == b""
        await client.close()
        watched.debugger.refuses = False
        client = await watched.client()
        client.writer.write(b"now")
        assert await client.reader.readexactly(3) == b"now"
        await client.close()


async def test_the_debugger_hanging_up_ends_the_client(short: Path) -> None:
    async with serving(short) as (watched, _):
        client = await watched.client()
        client.writer.write(b"bye")
        assert await client.reader.read() == b"bye"
        await client.close()


async def test_the_end_of_the_session_in_the_middle_of_a_parting_still_tells_the_debugger(short: Path) -> None:
    """A client hangs up and the attachment is deleted at the same moment."""
    for turns in range(8):
        async with serving(short) as (watched, run):
            client = await watched.client()
            assert await watched.told.get() == f"connected {ME}"
            client.writer.close()
            for _ in range(turns):
                await asyncio.sleep(0)
            run.cancel()
            await asyncio.wait({run})
            await asyncio.wait_for(watched.debugger.left.acquire(), 10)


async def test_bytes_that_are_no_protocol_pass_all_the_same(short: Path) -> None:
    async with serving(short, protocol="dap", terms=Terms(allow_terminate=True)) as (watched, _):
        client = await watched.client()
        client.writer.write(b"Content-Length: 3\r\n\r\n\xff\xfe\xfd" + b"x" * 9000)
        assert len(await client.reader.readexactly(9024)) == 9024
        await client.close()

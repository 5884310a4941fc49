"""Several clients at one session: who waits, who makes room for whom, and who only looks."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from agent.streams import Stream
from agent.terms import Terms
from squash.errors import SquashError
from squash.reasons import Reason
from squash.tasks import spawn
from squash.tunnel import Guest
from tests.agent.protocols.speech import messages, packet, request
from tests.agent.watched import ME, serving


async def test_a_second_client_is_turned_away_in_its_protocol_and_the_first_not_disturbed(short: Path) -> None:
    async with serving(short) as (watched, _):
        first = await watched.client()
        assert await watched.told.get() == f"connected {ME}"
        second = await watched.client()
        second.writer.write(b"+" + packet(b"qSupported"))
        said = await second.reader.read()
        assert said.startswith(b"+$E." + ME.encode() + b" holds the session since ")
        await second.close()
        first.writer.write(b"still here")
        assert await first.reader.readexactly(10) == b"still here"
        await first.close()


async def test_a_second_client_through_the_tunnel_is_told_who_is_there(short: Path) -> None:
    async with serving(short) as (watched, _):
        first = await watched.session.enter(Guest(client="ann@desk"))
        assert await watched.told.get() == "connected ann@desk"
        with pytest.raises(SquashError, match=r"ann@desk holds the session since \d\d:\d\d:\d\d UTC") as refused:
            await watched.session.enter(Guest(client="bob@desk"))
        assert refused.value.reason is Reason.SESSION_BUSY
        first.writer.write(b"still here")
        assert await first.reader.readexactly(10) == b"still here"
        await first.close()


async def test_a_takeover_ends_the_first_with_a_word_and_lets_the_second_in(short: Path) -> None:
    async with serving(short, protocol="dap") as (watched, _):
        first = await watched.session.enter(Guest(client="ann@desk"))
        assert await watched.told.get() == "connected ann@desk"
        second = await watched.session.enter(Guest(client="bob@desk", takeover=True))
        told, over = messages(await first.reader.read())
        assert told["body"]["output"] == "squash: bob@desk has taken over this session\n"
        assert over["event"] == "terminated"
        assert [await watched.told.get() for _ in range(2)] == ["left", "connected bob@desk"]
        second.writer.write(request(1, "threads"))
        assert messages(await second.reader.read(1000))[0]["command"] == "threads"
        assert ("bob@desk", "taken_over", "from ann@desk") in watched.events
        await first.close()
        await second.close()


async def test_a_takeover_of_one_who_neither_reads_nor_leaves(short: Path) -> None:
    async with serving(short) as (watched, _):
        first = await watched.session.enter(Guest(client="ann@desk"))
        sending = spawn(flood(first), "flood")
        second = await watched.session.enter(Guest(client="bob@desk", takeover=True))
        second.writer.write(b"hello")
        assert await second.reader.readexactly(5) == b"hello"
        await asyncio.wait({sending})
        await first.close()
        await second.close()


async def flood(stream: Stream) -> None:
    with contextlib.suppress(OSError):
        while True:
            stream.writer.write(bytes(1_000_000))
            await stream.writer.drain()


@pytest.mark.parametrize(("session", "guest"), [(True, False), (False, True)])
async def test_who_comes_to_look_only_looks(short: Path, session: bool, guest: bool) -> None:
    async with serving(short, protocol="dap", terms=Terms(read_only=session, allow_terminate=True)) as (watched, _):
        client = await watched.session.enter(Guest(client="ann@desk", read_only=guest))
        client.writer.write(request(1, "evaluate", expression="secret"))
        [answer] = messages(await client.reader.read(10_000))
        assert (answer["success"], answer["message"]) == (False, "read_only")
        assert watched.debugger.terms == Terms(read_only=True, allow_terminate=True)
        assert watched.events == [("ann@desk", "client_connected", "read-only"), ("ann@desk", "refused", "evaluate")]
        await client.close()


async def test_a_guest_makes_room_and_leaves_the_owners_breakpoints_alone(short: Path) -> None:
    ann, eve = Guest(client="ann@desk"), Guest(client="eve@desk", looks_only=True)
    async with serving(short, protocol="dap", terms=Terms(allow_terminate=True)) as (watched, _):
        first = await watched.session.enter(ann)
        first.writer.write(request(1, "setBreakpoints", source={"path": "/a.py"}, breakpoints=[{"line": 7}]))
        await first.reader.read(10_000)
        first.writer.transport.abort()
        await watched.debugger.left.acquire()
        guest = await watched.session.enter(eve)
        guest.writer.write(request(1, "pause", threadId=1))
        [answer] = messages(await guest.reader.read(10_000))
        assert (answer["success"], answer["message"]) == (False, "read_only")
        assert watched.debugger.terms == Terms(read_only=True, allow_terminate=True, looks_only=True)
        again = await watched.session.enter(ann)
        again.writer.write(request(1, "configurationDone"))
        said = messages(await again.reader.read(10_000))
        assert "output" in {message.get("event") for message in said}, "breakpoints set again"
        assert ("ann@desk", "taken_over", "from eve@desk") in watched.events
        await guest.close()
        await again.close()


async def test_who_only_looks_and_talks_nonsense_is_cut_off(short: Path) -> None:
    async with serving(short, protocol="dap", terms=Terms(read_only=True)) as (watched, _):
        client = await watched.client()
        client.writer.write(b"Content-Length: 3\r\n\r\n\xff\xfe\xfd")
        told, over = messages(await client.reader.read())
        assert (told["event"], over["event"]) == ("output", "terminated")
        await client.close()

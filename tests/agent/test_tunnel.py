"""Streams from a client through a real coordinator and a real agent's tunnel to debug servers, seen from their ends."""

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import Callable

import pytest

from agent.streams import Stream
from demo.world import World
from squash import serve
from squash.errors import ApiError
from squash.reasons import Reason
from squash.tunnel import WINDOW
from tests.agent.tunnelled import Way, digest, echo, resident

MEGABYTE = 1_048_576


@pytest.fixture
async def way(world: World) -> Way:
    return await asyncio.to_thread(Way, world)


def noise(seed: int, count: int) -> bytes:
    """Bytes that no other seed has."""
    return hashlib.shake_256(b"%d" % seed).digest(count)


async def read_exactly(stream: Stream, count: int) -> bytes:
    return await asyncio.wait_for(stream.reader.readexactly(count), 60)


async def rest(stream: Stream) -> bytes:
    """Everything up to the end; a break is an end here."""
    try:
        return await asyncio.wait_for(stream.reader.read(), 60)
    except ConnectionError:
        return b""


async def test_megabytes_both_ways_at_once(way: Way) -> None:
    data = noise(1, 24 * MEGABYTE)
    async with way.server(echo) as name, way.client(name) as client:

        async def send() -> None:
            client.writer.write(data)
            await client.writer.drain()
            client.writer.write_eof()

        _, back = await asyncio.gather(send(), rest(client))
        assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()


async def test_half_close_of_the_client(way: Way) -> None:
    data = noise(2, 3 * MEGABYTE)
    async with way.server(digest) as name, way.client(name) as client:
        client.writer.write(data)
        client.writer.write_eof()
        assert await rest(client) == hashlib.sha256(data).digest()


async def test_half_close_of_the_server(way: Way) -> None:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def speaks_first(stream: Stream) -> None:
        stream.writer.write(b"that is all")
        stream.writer.write_eof()
        heard.set_result(await stream.reader.read())

    async with way.server(speaks_first) as name, way.client(name) as client:
        assert await rest(client) == b"that is all"
        client.writer.write(b"and now I")
        client.writer.write_eof()
        assert await asyncio.wait_for(heard, 60) == b"and now I"


async def test_single_bytes_come_at_once(way: Way) -> None:
    async with way.server(echo) as name, way.client(name) as client:
        for number in range(200):
            client.writer.write(bytes([number]))
            assert await read_exactly(client, 1) == bytes([number])


async def test_a_slow_reader_slows_the_sender_and_nobody_fills_up(way: Way) -> None:
    total, sent = 64 * MEGABYTE, 0
    seen = hashlib.sha256()

    async def pours(stream: Stream) -> None:
        nonlocal sent
        while sent < total:
            data = noise(sent, 65_536)
            seen.update(data)
            stream.writer.write(data)
            sent += len(data)
            await stream.writer.drain()

    async with way.server(pours) as name:
        before = resident(way.coordinator), resident(way.agent)
        async with way.client(name) as client:
            await stands_still(way, lambda: sent)
            # One window, and what the buffers of three pairs of sockets take.
            assert sent < WINDOW + 6 * MEGABYTE
            assert resident(way.coordinator) - before[0] < 16 * MEGABYTE
            assert resident(way.agent) - before[1] < 16 * MEGABYTE
            back = hashlib.sha256(await rest(client))
        assert (sent, back.digest()) == (total, seen.digest())


async def test_a_debugger_that_does_not_read_slows_the_client(way: Way) -> None:
    go_on = asyncio.Event()
    heard: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def dozes(stream: Stream) -> None:
        await go_on.wait()
        heard.set_result(len(await stream.reader.read()))

    async with way.server(dozes) as name, way.client(name) as client:
        before = resident(way.coordinator), resident(way.agent)
        taken = 0

        async def push() -> None:
            nonlocal taken
            for _ in range(32):
                client.writer.write(bytes(MEGABYTE))
                await client.writer.drain()
                taken += MEGABYTE
            client.writer.write_eof()

        pushing = asyncio.gather(push())
        await stands_still(way, lambda: taken)
        assert taken < 8 * MEGABYTE
        assert resident(way.coordinator) - before[0] < 16 * MEGABYTE
        assert resident(way.agent) - before[1] < 16 * MEGABYTE
        go_on.set()
        await pushing
        assert await asyncio.wait_for(heard, 60) == 32 * MEGABYTE


async def test_three_hundred_streams_at_once_without_a_mix_up(way: Way) -> None:
    serve.allow_many_files()
    meeting = asyncio.Barrier(300)

    async def talk(name: str, number: int) -> None:
        async with way.client(name) as client:
            await meeting.wait()
            for turn in range(10):
                said = noise(number * 10 + turn, 1 + number * 7_919 * (turn + 1) % 20_000)
                client.writer.write(said)
                assert await read_exactly(client, len(said)) == said

    async with way.server(echo) as one, way.server(echo) as two, way.server(echo) as three, asyncio.TaskGroup() as all_:
        for number in range(300):
            all_.create_task(talk((one, two, three)[number % 3], number))
    await files_are_closed(way.agent.pid)
    await files_are_closed(way.coordinator.pid)


@pytest.mark.parametrize("stuck", [False, True], ids=["idle", "stuck"])
async def test_a_client_that_is_killed(way: Way, stuck: bool) -> None:
    """The debug server learns of it at once, even when it had stopped reading what the client sent."""
    came, left = asyncio.Event(), asyncio.Event()

    async def waits(stream: Stream) -> None:
        came.set()
        while not stuck and await stream.reader.read(1024):
            pass
        if stuck:
            await broken(stream)
        left.set()

    async with way.server(waits) as name:
        talker = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.agent.talker", way.url, name)
        await asyncio.wait_for(came.wait(), 60)
        talker.kill()
        await talker.wait()
        await asyncio.wait_for(left.wait(), 10)


@pytest.mark.parametrize("who", ["coordinator", "agent"])
async def test_a_part_that_is_killed_ends_both_sides(way: Way, who: str) -> None:
    left = asyncio.Event()

    async def waits(stream: Stream) -> None:
        stream.writer.write(b"hello")
        try:
            await stream.reader.read()
        finally:
            left.set()

    async with way.server(waits) as name, way.client(name) as client:
        assert await read_exactly(client, 5) == b"hello"
        os.kill(getattr(way, who).pid, signal.SIGKILL)
        assert await rest(client) == b""
        await asyncio.wait_for(left.wait(), 10)


async def test_an_agent_that_stops_closes_its_streams(way: Way) -> None:
    async with way.server(echo) as name, way.client(name) as client:
        client.writer.write(b"x")
        await read_exactly(client, 1)
        assert await asyncio.to_thread(way.agent.stop) == 0
        assert await rest(client) == b""
    assert "Traceback" not in way.agent.log.read_text()


async def test_a_debug_server_that_closes_ends_the_client_after_its_last_word(way: Way) -> None:
    async def says_a_lot_and_goes(stream: Stream) -> None:
        stream.writer.write(bytes(5 * MEGABYTE))
        await stream.writer.drain()

    async with way.server(says_a_lot_and_goes) as name, way.client(name) as client:
        assert len(await rest(client)) == 5 * MEGABYTE
    await files_are_closed(way.agent.pid)


async def test_both_come_back_after_the_coordinators_restart(way: Way, world: World) -> None:
    async with way.server(echo) as name:
        way.coordinator.kill()
        await asyncio.to_thread(world.coordinator)
        async with way.client(name) as client:
            client.writer.write(b"again")
            assert await read_exactly(client, 5) == b"again"


async def test_a_new_agent_takes_over_after_a_kill(way: Way) -> None:
    async with way.server(echo) as name:
        way.agent.kill()
        await asyncio.to_thread(way.start_agent)
        async with way.client(name) as client:
            client.writer.write(b"again")
            assert await read_exactly(client, 5) == b"again"


async def test_a_debug_server_that_is_gone_is_a_refusal(way: Way) -> None:
    async with way.server(echo) as name:
        pass
    with pytest.raises(ApiError) as refused:
        async with way.client(name):
            pass
    assert (refused.value.code, refused.value.reason) == (409, Reason.NOT_LISTENING)


async def stands_still(way: Way, count: Callable[[], int]) -> None:
    """Waits until something has come and nothing more comes, however busy the machine is.

    Another stream by the same way is the clock: while it goes round, whatever could go on does.
    """
    async with way.server(echo) as name, way.client(name) as clock:
        seen = 0
        for _ in range(1_000):
            for _ in range(50):
                clock.writer.write(b"x")
                await read_exactly(clock, 1)
            before, seen = seen, count()
            if seen == before > 0:
                return
    raise AssertionError(seen)


async def broken(stream: Stream) -> None:
    """Waits until the other end is gone, without reading."""
    while True:
        stream.writer.write(b"?")
        try:
            await stream.writer.drain()
        except OSError:
            return
        await asyncio.sleep(0.02)


async def files_are_closed(pid: int) -> None:
    """Of hundreds of streams no socket stays: the process has as few files open as one that had none."""
    for _ in range(1_000):
        if len(os.listdir(f"/proc/{pid}/fd")) < 30:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(sorted(os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")))

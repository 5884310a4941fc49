"""The tunnel's WebSockets at a real coordinator; client and agent are this test."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast
from uuid import uuid4

import httpx
import pytest
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from coordinator.switchboard import Switchboard
from coordinator.tunnel import Meeting, meet
from squash.errors import ApiError
from squash.reasons import Reason
from squash.tasks import spawn
from squash.tunnel import (
    BROKEN,
    DONE,
    END,
    MISUSED,
    Call,
    Guest,
    client_path,
    credit,
    line_path,
    read_call,
    stream_path,
)
from squash.websocket import dial
from tests.coordinator.program import Coordinator


class Agent:
    """An agent's line, held by this test."""

    def __init__(self, url: str, line: ClientConnection, name: str) -> None:
        self.url, self.line, self.name = url, line, name

    async def call(self) -> Call:
        return read_call(await self.line.recv())

    async def meet(self) -> ClientConnection:
        return await dial(self.url, stream_path((await self.call()).stream))


@asynccontextmanager
async def agent(coordinator: Coordinator) -> AsyncIterator[Agent]:
    name = uuid4().hex
    async with await dial(coordinator.url, line_path(name)) as line:
        yield Agent(coordinator.url, line, name)


def listening(coordinator: Coordinator, pod: str, agent: str, **spec: str) -> str:
    """An attachment whose debug server the agent has."""
    name = coordinator.attached(pod, **spec)
    assert coordinator.patch(name, state="attaching", agent=agent).status_code == 200
    patched = coordinator.patch(name, phase="listening", debug_server_address="unix:/x", protocol="dap")
    assert patched.status_code == 200
    return name


@asynccontextmanager
async def opened(coordinator: Coordinator, pod: str) -> AsyncIterator[tuple[ClientConnection, ClientConnection]]:
    """Both ends of a stream: the client's and the agent's."""
    async with agent(coordinator) as known:
        name = listening(coordinator, pod, known.name)
        dialing = spawn(dial(coordinator.url, client_path(name)), "client")
        async with await known.meet() as far, await dialing as near:
            yield near, far


async def refusal(coordinator: Coordinator, name: str) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await dial(coordinator.url, client_path(name))
    return refused.value


async def closed(end: ClientConnection) -> tuple[int, str]:
    with contextlib.suppress(ConnectionClosed):
        async for _ in end:
            pass
    return end.close_code or 0, end.close_reason or ""


async def test_messages_pass_both_ways_as_they_are(shared: Coordinator, pod: str) -> None:
    async with opened(shared, pod) as (near, far):
        for sender, receiver in ((near, far), (far, near)):
            for message in (b"\0\xff" * 30_000, credit(7), END):
                await sender.send(message)
                assert await receiver.recv() == message


@pytest.mark.parametrize("who", ["client", "agent"])
async def test_a_close_is_passed_on(shared: Coordinator, pod: str, who: str) -> None:
    async with opened(shared, pod) as (near, far):
        first, second = (near, far) if who == "client" else (far, near)
        await first.close(DONE)
        assert (await closed(second))[0] == DONE
    async with opened(shared, pod) as (near, far):
        first, second = (near, far) if who == "client" else (far, near)
        await first.close(BROKEN, "out of cheese")
        assert await closed(second) == (BROKEN, "out of cheese")


@pytest.mark.parametrize("who", ["client", "agent"])
async def test_a_break_is_told_at_once(shared: Coordinator, pod: str, who: str) -> None:
    async with opened(shared, pod) as (near, far):
        first, second = (near, far) if who == "client" else (far, near)
        first.transport.abort()
        assert await closed(second) == (BROKEN, f"{who} gone")


async def test_streams_are_counted(own: Coordinator, pod: str) -> None:
    def count(what: str) -> int:
        lines = own.http.get("/metrics").text.splitlines()
        return int(float(next(line.split()[1] for line in lines if line.startswith(f"squash_tunnel_{what} "))))

    async with opened(own, pod):
        own.until(lambda: (count("streams"), count("agents")) == (1, 1), "the stream")
    own.until(lambda: (count("streams"), count("agents")) == (0, 0), "its end")


async def test_the_end_of_the_coordinator_is_the_end_of_both(own: Coordinator, pod: str) -> None:
    async with opened(own, pod) as (near, far):
        own.process.send_signal(signal.SIGKILL)
        await closed(near)
        await closed(far)


async def test_a_coordinator_stops_with_streams_open(own: Coordinator, pod: str) -> None:
    async with opened(own, pod) as (near, far):
        own.process.send_signal(signal.SIGTERM)
        await closed(near)
        await closed(far)
        assert await asyncio.to_thread(own.process.wait, 30) == 0
    assert "Traceback" not in own.log


async def test_an_unknown_id(shared: Coordinator) -> None:
    for name in ("nothing", "a/b", "x/tunnel", "%"):
        error = await refusal(shared, name)
        assert (error.code, error.reason) == (404, Reason.NOT_FOUND)


async def test_an_attachment_without_a_debugger_yet(shared: Coordinator, pod: str) -> None:
    error = await refusal(shared, shared.attached(pod))
    assert (error.code, error.reason) == (409, Reason.NOT_LISTENING)
    assert "is none (phase located)" in error.message


async def test_an_attachment_that_is_over(shared: Coordinator, pod: str) -> None:
    async with agent(shared) as known:
        name = listening(shared, pod, known.name)
        shared.patch(name, state="error", reason="client_gone", phase="detached")
        assert (await refusal(shared, name)).reason is Reason.NOT_LISTENING


async def test_an_agent_that_is_away(shared: Coordinator, pod: str) -> None:
    error = await refusal(shared, listening(shared, pod, uuid4().hex))
    assert (error.code, error.reason) == (503, Reason.AGENT_AWAY)


async def test_an_agent_that_declines(shared: Coordinator, pod: str) -> None:
    async with agent(shared) as known:
        asking = spawn(refusal(shared, listening(shared, pod, known.name)), "refusal")
        stream = (await known.call()).stream
        await known.line.send(f'{{"stream": "{stream}", "reason": "not_listening", "message": "just left"}}')
        error = await asking
        assert (error.code, error.reason, error.message) == (409, Reason.NOT_LISTENING, "just left")


async def test_the_agent_is_told_who_wants_in_and_how(shared: Coordinator, pod: str) -> None:
    async with agent(shared) as known:
        name = listening(shared, pod, known.name)
        guest = Guest(client="ann@desk", takeover=True, read_only=True)
        asking = spawn(dial(shared.url, client_path(name, guest)), "client")
        call = await known.call()
        assert (call.client, call.takeover, call.read_only) == ("ann@desk", True, True)
        asking.cancel()
        await asyncio.wait({asking})


async def test_only_the_owner_takes_over(shared: Coordinator, pod: str) -> None:
    async with agent(shared) as known:
        name = listening(shared, pod, known.name, owner="ann@desk")
        with pytest.raises(ApiError, match="is ann@desk's") as refused:
            await dial(shared.url, client_path(name, Guest(client="bob@desk", takeover=True)))
        assert (refused.value.code, refused.value.reason) == (403, Reason.TAKEOVER_DENIED)
        asking = spawn(dial(shared.url, client_path(name, Guest(client="ann@desk", takeover=True))), "owner")
        assert (await known.call()).takeover
        asking.cancel()
        await asyncio.wait({asking})


@pytest.mark.parametrize("query", ["takeover=yes", "read_only=1", "client=%0a", f"client={'x' * 1025}"])
async def test_terms_that_cannot_be_meant_are_refused(shared: Coordinator, pod: str, query: str) -> None:
    async with agent(shared) as known:
        name = listening(shared, pod, known.name)
        with pytest.raises(ApiError) as refused:
            await dial(shared.url, f"{client_path(name)}?{query}")
        assert (refused.value.code, refused.value.reason) == (422, Reason.INVALID)


async def test_an_agent_that_dies_when_called(shared: Coordinator, pod: str) -> None:
    async with agent(shared) as known:
        asking = spawn(refusal(shared, listening(shared, pod, known.name)), "refusal")
        await known.call()
        known.line.transport.abort()
        assert (await asking).reason is Reason.AGENT_AWAY


async def test_a_client_that_dies_before_the_agent_comes(shared: Coordinator, pod: str) -> None:
    async with agent(shared) as known:
        name = listening(shared, pod, known.name)
        asking = spawn(dial(shared.url, client_path(name)), "client")
        call = await known.call()
        asking.cancel()
        await asyncio.wait({asking})
        async with await dial(shared.url, stream_path(call.stream)) as far:
            code, reason = await closed(far)
        assert (code, reason) == (BROKEN, "client gone")


async def test_a_stream_that_nobody_waits_for(shared: Coordinator) -> None:
    async with await dial(shared.url, stream_path("guess")) as far:
        assert await closed(far) == (BROKEN, "nobody waits for this stream")


@pytest.mark.parametrize("word", ["hello", "{}", b"bytes", '{"stream": 1}'])
async def test_an_agent_that_talks_nonsense(shared: Coordinator, word: str | bytes) -> None:
    async with agent(shared) as known:
        await known.line.send(word)
        assert (await closed(known.line))[0] == MISUSED


@pytest.mark.parametrize("path", ["/debugattachment/x/tunnel", "/agent/x/line", "/stream/x"])
async def test_pages_of_a_browser_are_refused(shared: Coordinator, path: str) -> None:
    where = f"{shared.url.replace('http', 'ws', 1)}/api/v2{path}"
    with pytest.raises(InvalidStatus) as refused:
        await connect(where, origin="http://127.0.0.1:1", proxy=None)  # type: ignore[arg-type]  # any text does
    answer = refused.value.response
    assert answer.status_code == 403
    assert b"from_a_page" in (answer.body or b"")


async def test_a_message_that_is_too_long_ends_the_stream(shared: Coordinator, pod: str) -> None:
    async with opened(shared, pod) as (near, far):
        with contextlib.suppress(ConnectionClosed):
            await near.send(bytes(2_000_000))
        assert (await closed(near))[0] == 1009
        assert (await closed(far))[0] == BROKEN


def test_the_path_without_a_websocket_is_a_refusal_like_any_other(shared: Coordinator) -> None:
    answer = httpx.get(f"{shared.url}/api/v2/debugattachment/x/tunnel", trust_env=False)
    assert answer.status_code == 426
    assert answer.json()["reason"] == "upgrade_needed"


async def test_a_client_that_is_lost_without_a_word_is_given_up(shared: Coordinator, pod: str) -> None:
    """Its machine is gone: nobody answers, and nobody closes. Until it is noticed, a process may stand still."""
    async with agent(shared) as known:
        name = listening(shared, pod, known.name)
        url = httpx.URL(shared.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        key = "sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\nsec-websocket-version: 13\r\n"
        upgrade = f"host: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n{key}"
        writer.write(f"GET {client_path(name)} HTTP/1.1\r\n{upgrade}\r\n".encode())
        async with await known.meet() as far:
            assert b" 101 " in await reader.readline()
            begun = asyncio.get_running_loop().time()
            assert await asyncio.wait_for(closed(far), 60) == (BROKEN, "client gone")
            # Far more than it takes, and less than the 40 seconds of uvicorn's own limits.
            assert asyncio.get_running_loop().time() - begun < 25
        writer.close()
        await writer.wait_closed()


class Silent:
    """A client's WebSocket on which nothing comes."""

    async def receive(self) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("turns", range(4))
async def test_an_agent_that_comes_when_its_client_has_lost_the_right_is_sent_back(turns: int) -> None:
    board: Switchboard[Meeting] = Switchboard()
    line = board.open_line("a")
    waiting = spawn(meet(cast(WebSocket, Silent()), board.call("a", "x", 30)), "client")
    stream = (await line.calls.get()).stream
    meeting = Meeting(cast(WebSocket, None))
    assert board.connect(stream, meeting)
    for _ in range(turns):
        await asyncio.sleep(0)
    came = waiting.done()
    waiting.cancel()
    await asyncio.wait({waiting})
    if not came:
        async with asyncio.timeout(30):
            await meeting.over.wait()

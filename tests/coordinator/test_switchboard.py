"""Clients and agents that find each other; here a stream's end is a text."""

import asyncio
from collections.abc import Awaitable

import pytest

from coordinator import switchboard
from coordinator.switchboard import Switchboard
from squash.errors import ApiError
from squash.reasons import Reason
from squash.tasks import spawn
from squash.tunnel import Declined

LONG = 30.0


@pytest.fixture
def board() -> Switchboard[str]:
    return Switchboard()


async def test_a_client_meets_the_agent(board: Switchboard[str]) -> None:
    line = board.open_line("a")
    calling = spawn(board.call("a", "x", LONG), "call")
    call = await line.calls.get()
    assert call.attachment == "x"
    assert board.connect(call.stream, "there")
    assert await calling == "there"
    assert not board.connect(call.stream, "again"), "a stream is met once"


async def test_nobody_guesses_a_stream(board: Switchboard[str]) -> None:
    line = board.open_line("a")
    streams = set()
    for _ in range(3):
        calling = spawn(board.call("a", "x", LONG), "call")
        streams.add((await line.calls.get()).stream)
        calling.cancel()
    assert len(streams) == 3
    assert all(len(stream) == 32 for stream in streams)
    assert not board.connect("guess", "thief")


async def test_the_agent_declines(board: Switchboard[str]) -> None:
    line, other = board.open_line("a"), board.open_line("b")
    calling = spawn(_refusal(board.call("a", "x", LONG)), "call")
    stream = (await line.calls.get()).stream
    board.decline(other, Declined(stream=stream, reason=Reason.INTERNAL, message="not its stream"))
    board.decline(line, Declined(stream=stream, reason=Reason.NOT_LISTENING, message="no"))
    error = await calling
    assert (error.code, error.reason, error.message) == (409, Reason.NOT_LISTENING, "no")


async def test_the_agent_leaves_while_it_is_waited_for(board: Switchboard[str]) -> None:
    line = board.open_line("a")
    calling = spawn(_refusal(board.call("a", "x", LONG)), "call")
    await line.calls.get()
    board.close_line(line)
    error = await calling
    assert (error.code, error.reason) == (503, Reason.AGENT_AWAY)
    assert board.agents == 0


async def test_an_agent_that_never_comes(board: Switchboard[str]) -> None:
    board.open_line("a")
    error = await _refusal(board.call("a", "x", 0.01))
    assert (error.code, error.reason) == (504, Reason.AGENT_AWAY)


async def test_an_agent_that_comes_in_the_last_moment(board: Switchboard[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both in one turn of the event loop: who was met must be told."""
    line = board.open_line("a")
    calling = spawn(board.call("a", "x", LONG), "call")
    stream = (await line.calls.get()).stream
    loop = asyncio.get_running_loop()
    late = loop.time() + 60
    loop.call_at(0, lambda: board.connect(stream, "there"))
    monkeypatch.setattr(loop, "time", lambda: late)
    assert await calling == "there"


async def test_an_agent_that_nobody_knows(board: Switchboard[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switchboard, "REOPEN", 0.01)
    error = await _refusal(board.call("a", "x", LONG))
    assert (error.code, error.reason) == (503, Reason.AGENT_AWAY)


async def test_a_line_that_is_on_its_way_is_waited_for(board: Switchboard[str]) -> None:
    calling = spawn(board.call("a", "x", LONG), "call")
    await asyncio.sleep(0)
    board.open_line("b")
    line = board.open_line("a")
    board.connect((await line.calls.get()).stream, "there")
    assert await calling == "there"


async def test_a_new_line_takes_the_place_of_the_lost_one(board: Switchboard[str]) -> None:
    old = board.open_line("a")
    new = board.open_line("a")
    board.close_line(old)
    assert board.agents == 1
    calling = spawn(board.call("a", "x", LONG), "call")
    board.connect((await new.calls.get()).stream, "there")
    assert await calling == "there"


async def _refusal(call: Awaitable[str]) -> ApiError:
    with pytest.raises(ApiError) as refused:
        await call
    return refused.value

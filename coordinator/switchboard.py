"""Who is connected to whom: agents with an open line, streams that an agent was called for. No socket in here."""

import asyncio
import secrets
from typing import Generic, TypeVar

from squash.errors import ApiError
from squash.reasons import Reason
from squash.tunnel import NOBODY, Call, Declined, Guest

Socket = TypeVar("Socket")
REOPEN = 3.0
"""Seconds that an agent's line may be missing: agents come back to a restarted coordinator sooner than that."""


class Line:
    """An agent's open line. `calls` are what it is yet to be told."""

    def __init__(self, agent: str, node: str | None = None) -> None:
        self.agent = agent
        self.node = node
        """The only node that it may serve; None where nobody says."""
        self.calls: asyncio.Queue[Call] = asyncio.Queue()
        """One for each client that waits, so as bounded as they are."""


class Waiting(Generic[Socket]):
    """A stream that an agent was called for."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.answer: asyncio.Future[Socket] = asyncio.get_running_loop().create_future()


class Switchboard(Generic[Socket]):
    """`Socket` is what an agent's end of a stream is."""

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        self._waiting: dict[str, Waiting[Socket]] = {}
        self._opened = asyncio.Event()
        self.streams = 0
        """How many are open from end to end."""

    @property
    def agents(self) -> int:
        """How many have a line open."""
        return len(self._lines)

    def open_line(self, agent: str, node: str | None = None) -> Line:
        """A line in place of the agent's earlier one: that is lost, even where it has not been noticed yet."""
        line = self._lines[agent] = Line(agent, node)
        self._opened.set()
        self._opened = asyncio.Event()
        return line

    def close_line(self, line: Line) -> None:
        """Whoever waits for a stream by this line is told."""
        if self._lines.get(line.agent) is line:
            del self._lines[line.agent]
        for waiting in self._waiting.values():
            if waiting.line is line:
                _fail(waiting, ApiError(503, Reason.AGENT_AWAY, f"agent {line.agent} left"))

    def node_of(self, agent: str) -> str | None:
        """The only node that the agent's open line may serve, if there is one."""
        line = self._lines.get(agent)
        return line.node if line else None

    def node_of_stream(self, stream: str) -> str | None:
        """The same for the agent that was called for a stream."""
        waiting = self._waiting.get(stream)
        return waiting.line.node if waiting else None

    async def call(
        self, agent: str, attachment: str, seconds: float, guest: Guest = NOBODY, node: str | None = None
    ) -> Socket:
        """The agent's end of a new stream to a debug server of `node`.

        Raises ApiError: AGENT_AWAY (503, 504), or why the agent declined (409).
        """
        line = await self._line(agent)
        if line.node not in (None, node):
            message = f"agent {agent} may serve node {line.node!r}, and the debug attachment is of {node!r}"
            raise ApiError(503, Reason.AGENT_AWAY, message)
        stream = secrets.token_hex(16)
        waiting = self._waiting[stream] = Waiting(line)
        call = Call(
            stream=stream,
            attachment=attachment,
            client=guest.client,
            takeover=guest.takeover,
            read_only=guest.read_only,
            looks_only=guest.looks_only,
        )
        line.calls.put_nowait(call)
        try:
            async with asyncio.timeout(seconds):
                return await waiting.answer
        except TimeoutError:
            if waiting.answer.done() and not waiting.answer.cancelled():
                return waiting.answer.result()  # it came in the very moment; nobody else would send it back
            message = f"agent {agent} opened no stream within {seconds:g} s"
            raise ApiError(504, Reason.AGENT_AWAY, message) from None
        finally:
            del self._waiting[stream]

    async def _line(self, agent: str) -> Line:
        """The agent's line. One that is being opened again, after a restart of either, is waited for."""
        try:
            async with asyncio.timeout(REOPEN):
                while agent not in self._lines:
                    await self._opened.wait()
        except TimeoutError:
            raise ApiError(503, Reason.AGENT_AWAY, f"agent {agent} is not connected to the coordinator") from None
        return self._lines[agent]

    def connect(self, stream: str, socket: Socket) -> bool:
        """The agent has dialed for a stream; False when nobody waits for it."""
        waiting = self._waiting.get(stream)
        if waiting is None or waiting.answer.done():
            return False
        waiting.answer.set_result(socket)
        return True

    def decline(self, line: Line, declined: Declined) -> None:
        """The agent says on its line that there will be no such stream."""
        waiting = self._waiting.get(declined.stream)
        if waiting and waiting.line is line:
            _fail(waiting, ApiError(409, declined.reason, declined.message))


def _fail(waiting: Waiting[Socket], error: ApiError) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)

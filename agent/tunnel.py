"""The agent's side of the tunnel: it dials the coordinator, never the other way round.

One line stays open on which the coordinator calls for streams. For each the agent connects to the debug server's
socket, as any client on this node would, then dials one more WebSocket, and joins the two.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from agent.report import PAUSES
from agent.streams import Stream
from squash.credentials import Credentials
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason
from squash.splice import Splice
from squash.tasks import spawn
from squash.tunnel import Call, Declined, Guest, line_path, read_call, stream_path
from squash.websocket import dial

_encode = msgspec.json.Encoder().encode


class Door(Protocol):
    """Where clients of one debug server come in."""

    async def enter(self, guest: Guest) -> Stream:
        """A client's connection to the debug server. Raises SquashError."""


class Tunnel:
    """`door` tells where clients of an attachment's debug server come in; None: there is none."""

    def __init__(
        self, url: str, agent: str, door: Callable[[str], Door | None], credentials: Credentials | None = None
    ) -> None:
        self._url = url
        self._agent = agent
        self._door = door
        self._credentials = credentials
        self._log = Log("tunnel")
        self._streams: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Answers calls until cancelled; then every stream is closed. A stream outlives the line that called for it."""
        tries = 0
        try:
            while True:
                try:
                    line = await dial(self._url, line_path(self._agent), self._credentials)
                    tries = 0
                    await self._listen(line)
                    cause, reason = "it closed", None
                except SquashError as error:
                    cause, reason = error.message, error.reason
                pause = PAUSES[min(tries, len(PAUSES) - 1)]
                tries += 1
                self._log.warning("no line to the coordinator", error=cause, reason=reason, pause=pause)
                await asyncio.sleep(pause)
        finally:
            await self._end_streams()

    async def _listen(self, line: ClientConnection) -> None:
        self._log.info("line to the coordinator is open")
        try:
            while True:
                call = read_call(await line.recv())
                task = spawn(self._answer(call, line), f"stream {call.stream}")
                self._streams.add(task)
                task.add_done_callback(self._streams.discard)
        except (ConnectionClosed, msgspec.DecodeError):
            return
        finally:
            await line.close()

    async def _answer(self, call: Call, line: ClientConnection) -> None:
        log = self._log.bind(attachment=call.attachment)
        try:
            local = await self._enter(call)
        except SquashError as error:
            log.warning("stream declined", error=error.message)
            await _decline(line, Declined(stream=call.stream, reason=error.reason, message=error.message))
            return
        try:
            tunnel = await dial(self._url, stream_path(call.stream), self._credentials)
        except SquashError as error:
            log.warning("cannot dial for a stream", error=error.message)
            await local.close()
            return
        except asyncio.CancelledError:
            local.writer.transport.abort()
            raise
        log.info("stream opened", streams=len(self._streams))
        broken = await Splice(local.reader, local.writer, tunnel).run()
        log.info("stream closed", broken=broken or None)

    async def _enter(self, call: Call) -> Stream:
        """A connection to the debug server. Raises SquashError."""
        door = self._door(call.attachment)
        if door is None:
            raise SquashError(Reason.NOT_LISTENING, f"debug attachment {call.attachment} has no debug server here")
        return await door.enter(call)

    async def _end_streams(self) -> None:
        streams = list(self._streams)
        for task in streams:
            task.cancel()
        if streams:
            await asyncio.wait(streams)


async def _decline(line: ClientConnection, declined: Declined) -> None:
    try:
        await line.send(_encode(declined).decode())
    except ConnectionClosed:
        return  # with the line the call is over too

"""Carries the bytes of one session between client and debug server, through the interpreter of their protocol."""

import asyncio
from collections.abc import Callable

from agent.protocols.interpreter import Event, Flow, Interpreter
from agent.streams import Stream
from squash.tasks import spawn
from squash.tunnel import CHUNK

CALM = 1.5
"""Seconds without more of the same after which a client is done with it (`Interpreter.calm`).

An IDE sets all its breakpoints within some tenths of a second, and looks into its index for some of them.
"""


class Relay:
    """`told` gets each event; `moved` is called after each step, when the interpreter may know something new.

    `said` is what was read from the client already.
    """

    def __init__(
        self,
        client: Stream,
        server: Stream,
        interpreter: Interpreter,
        told: Callable[[Event], None],
        moved: Callable[[], None],
        said: bytes = b"",
    ) -> None:
        self._client = client
        self._server = server
        self._interpreter = interpreter
        self._told = told
        self._moved = moved
        self._said = said
        self.answered = False
        """The debugger has said something."""
        self._stirred = interpreter.stirred
        self._calm: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Until either end closes, or the session must not go on."""
        up = spawn(self._pump(self._client, self._interpreter.from_client, self._said), "client to debugger")
        down = spawn(self._pump(self._server, self._interpreter.from_server), "debugger to client")
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._calm:
                self._calm.cancel()
            for task in (up, down):
                task.cancel()
            await asyncio.wait({up, down})

    async def _pump(self, source: Stream, understand: Callable[[bytes], Flow], said: bytes = b"") -> None:
        try:
            while data := said or await source.reader.read(CHUNK):
                said = b""
                self.answered = self.answered or source is self._server
                flow = understand(data)
                for event in flow.events:
                    self._told(event)
                # Both at once, and before anything is waited for: their order is the interpreter's.
                _write(self._server, flow.server)
                _write(self._client, flow.client)
                if self._interpreter.stirred != self._stirred:
                    self._stirred = self._interpreter.stirred
                    self._wait_for_calm()
                self._moved()
                if flow.server:
                    await self._server.writer.drain()
                if flow.client:
                    await self._client.writer.drain()
                if flow.over:
                    return
        except OSError:
            return  # an end that broke is an end that closed

    def _wait_for_calm(self) -> None:
        if self._calm:
            self._calm.cancel()
        self._calm = asyncio.get_running_loop().call_later(CALM, self._look)

    def _look(self) -> None:
        if not self._interpreter.calm():
            self._wait_for_calm()
        self._moved()


def _write(stream: Stream, pieces: list[bytes]) -> None:
    if pieces and not stream.writer.is_closing():
        stream.writer.writelines(pieces)

"""One debugger in one process, and the unix socket at which its client finds it."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from agent.debuggers import DebugServer
from agent.gates import GATES, ProtocolViolation
from agent.streams import Stream
from squash.logs import Log
from squash.reasons import Reason
from squash.tasks import spawn
from squash.tunnel import CHUNK, Guest

LEAVING = 1.0
"""Seconds that a client may still need to be gone when the next one comes, as of an editor that is restarted."""


class Session:
    """Serves one client after another until the debugger ends or no client wants it any more.

    `on_connected` and `on_ready` are told once each; `on_ready` gets the gate's remarks.
    """

    def __init__(
        self,
        server: DebugServer,
        protocol: str,
        path: Path,
        log: Log,
        on_connected: Callable[[], None],
        on_ready: Callable[[str], None],
    ) -> None:
        self._server = server
        self._protocol = protocol
        self.path = path
        self._log = log
        self._on_connected = on_connected
        self._on_ready = on_ready
        self._connected = False
        self._ready = False
        self._closed = False
        self._parting = False
        """Whether the client has left and the debugger is still letting go: the next one waits for that."""
        self._client: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        self._listener: asyncio.Server | None = None

    async def listen(self) -> str:
        """Opens the socket; returns its address in the form of `status.debug_server_address`."""
        self._listener = await asyncio.start_unix_server(self._accept, self.path)
        self.path.chmod(0o600)
        return f"unix:{self.path}"

    async def enter(self, guest: Guest) -> Stream:
        """The end of a new client's connection that is the client's."""
        ours, theirs = socket.socketpair()
        client = Stream(*await asyncio.open_connection(sock=theirs, limit=CHUNK))
        await self._accept(*await asyncio.open_connection(sock=ours, limit=CHUNK))
        return client

    async def run(self, first_client: float, client_grace: float) -> Reason:
        """Returns why it is over. Waits `first_client` seconds for a client, `client_grace` for one to come back."""
        ended = spawn(self._server.ended(), "debug server ended")
        deserted = spawn(self._deserted(first_client, client_grace), "session deserted")
        try:
            done, _ = await asyncio.wait({ended, deserted}, return_when=asyncio.FIRST_COMPLETED)
            return Reason.DEBUGGER_DIED if ended in done else Reason.CLIENT_GONE
        finally:
            ended.cancel()
            deserted.cancel()
            await self.close()

    async def close(self) -> None:
        """Turns the client away and removes the socket. The debugger itself stays."""
        self._closed = True
        if self._listener:
            self._listener.close()
        if self._client:
            self._client.cancel()
            await asyncio.wait({self._client})
        self.path.unlink(missing_ok=True)

    async def _deserted(self, first_client: float, client_grace: float) -> None:
        patience = first_client
        while True:
            try:
                await asyncio.wait_for(self._arrived.wait(), patience)
            except TimeoutError:
                return
            self._arrived.clear()
            if self._client:
                await asyncio.wait({self._client})
            patience = client_grace

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Stream(reader, writer)
        if self._client:
            await asyncio.wait({self._client}, timeout=None if self._parting else LEAVING)
        busy = self._client is not None and not self._client.done()
        if busy or self._closed:
            self._log.warning("client refused: " + ("one at a time" if busy else "the session is over"))
            await client.close()
            return
        self._parting = False
        self._client = spawn(self._serve(client), "debug client")
        self._arrived.set()

    async def _serve(self, client: Stream) -> None:
        try:
            debugger = await self._server.connect()
            self._log.info("client connected")
            if not self._connected:
                self._connected = True
                self._on_connected()
            try:
                await self._relay(client, debugger)
            finally:
                self._parting = True
                debugger.writer.close()
                await _see_through(self._server.disconnected(), "client left")
                self._log.info("client left")
        except (OSError, TimeoutError) as error:
            self._log.warning("debug server cannot be reached", error=str(error))
        finally:
            client.writer.close()

    async def _relay(self, client: Stream, debugger: Stream) -> None:
        """Passes bytes both ways until either end closes."""
        gate = GATES[self._protocol]()

        def check() -> None:
            if gate.ready and not self._ready:
                self._ready = True
                self._on_ready(gate.remarks())

        up = spawn(_pump(client, debugger, self._guarded(gate.from_client), check), "client to debugger")
        down = spawn(_pump(debugger, client, self._guarded(gate.from_server), check), "debugger to client")
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (up, down):
                task.cancel()
            await asyncio.wait({up, down})

    def _guarded(self, look: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """The gate only looks on: what it cannot read passes all the same, and readiness is left to other means."""
        blind = False

        def guarded(data: bytes) -> None:
            nonlocal blind
            if blind or self._ready:
                return
            try:
                look(data)
            except ProtocolViolation as error:
                blind = True
                self._log.warning("the ready gate cannot follow the client", error=str(error))

        return guarded


async def _see_through(work: Coroutine[Any, Any, None], name: str) -> None:
    """Waits for the end of `work`, which takes its course even when the waiting is cancelled."""
    task = spawn(work, name)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


async def _pump(source: Stream, sink: Stream, look: Callable[[bytes], None], passed: Callable[[], None]) -> None:
    try:
        while data := await source.reader.read(CHUNK):
            look(data)
            sink.writer.write(data)
            await sink.writer.drain()
            passed()
    except OSError:
        return  # an end that broke is an end that closed

"""One debugger in one process, and the doors by which clients come to it: one at a time, each on its terms."""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from agent.debuggers import DebugServer
from agent.guarded import Guarded
from agent.peers import tcp_peer, unix_peer, user
from agent.protocols import spoken
from agent.protocols.interpreter import Event, Interpreter, Kept
from agent.relay import Relay
from agent.streams import Stream
from agent.terms import Terms
from squash.errors import SquashError
from squash.logs import Log
from squash.model import Action
from squash.options import Address
from squash.reasons import Reason
from squash.tasks import spawn
from squash.tunnel import CHUNK, Guest

LEAVING = 1.0
"""Seconds that a client may still need to be gone when the next one comes, as of an editor that is restarted."""
HELLO = 60.0
"""Seconds for a client to say its first byte, where the process would be stopped for it; clients say it at once."""
STANDING = 10.0
"""Seconds that a process stands, before it has been let run once, for who only looks, or says what is no protocol."""
GREETING = 2.0
"""Seconds for a client that cannot come in to say something, so that it can be told in its own protocol."""


@dataclass(frozen=True)
class Ears:
    """Who is told what happens in a session."""

    connected: Callable[[str], None]
    """A client is there: its name."""
    left: Callable[[], None]
    ready: Callable[[str], None]
    """The ready gate has opened, once; with its remarks."""
    event: Callable[[str, Event], None]
    """For the audit trail: whose doing, and what."""


class Doors(NamedTuple):
    """Where clients come in: a unix socket, and a TCP port where that is wished for."""

    path: Path
    tcp: Address | None = None
    everybody: bool = False
    """The port lets in other users than those who may debug the process anyway."""
    owner: int | None = None
    """The uid of the process."""


class Sitting:
    """One client's time at the debugger."""

    def __init__(self, guest: Guest, client: Stream) -> None:
        self.guest = guest
        self.client = client
        self.since = time.time()
        self.task: asyncio.Task[None] | None = None
        self.interpreter: Interpreter | None = None
        self.parting = False
        """The client has left and the debugger is still letting go."""

    @property
    def over(self) -> bool:
        return self.task is None or self.task.done()

    async def ended(self, within: float | None = None) -> None:
        if self.task:
            await asyncio.wait({self.task}, timeout=within)


class Session:
    """Serves one client after another until the debugger ends or no client wants it any more."""

    def __init__(
        self,
        server: DebugServer,
        protocol: str,
        doors: Doors,
        log: Log,
        terms: Terms,
        ears: Ears,
    ) -> None:
        """`terms` hold for every client; each may come on narrower ones. Raises SquashError for an unknown protocol."""
        self._server = server
        self._halts = isinstance(server, Guarded)
        """A connection to it stops the process."""
        self._language = spoken(protocol)
        self._doors = doors
        self._log = log
        self._terms = terms
        self._ears = ears
        self._ready = False
        self._closed = False
        self._sitting: Sitting | None = None
        self._kept: tuple[str, Kept] = ("", {})
        """Whose session broke off last, and what breakpoints it had set."""
        self._arrived = asyncio.Event()
        self._listeners: list[asyncio.Server] = []

    @property
    def occupied(self) -> bool:
        """Whether a client is there."""
        return self._sitting is not None and not self._sitting.over

    async def listen(self) -> str:
        """Opens the doors; returns the address in the form of `status.debug_server_address`. Raises OSError."""
        path, tcp = self._doors.path, self._doors.tcp
        try:
            self._listeners.append(await asyncio.start_unix_server(self._accept, path, limit=CHUNK))
            path.chmod(0o600)
            if tcp is None:
                return f"unix:{path}"
            listener = await asyncio.start_server(self._accept_tcp, tcp.host, tcp.port, limit=CHUNK)
            self._listeners.append(listener)
            return str(Address(*listener.sockets[0].getsockname()[:2]))
        except BaseException:
            await self.close()
            raise

    async def enter(self, guest: Guest) -> Stream:
        """The client's end of a new connection. Raises SquashError: somebody else is there, or it is over."""
        ours, theirs = socket.socketpair()
        client = Stream(*await asyncio.open_connection(sock=theirs, limit=CHUNK))
        end = Stream(*await asyncio.open_connection(sock=ours, limit=CHUNK))
        try:
            await self._admit(guest, end)
        except BaseException:
            end.writer.transport.abort()
            client.writer.transport.abort()
            raise
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
        """Turns the client away and closes the doors. The debugger itself stays."""
        self._closed = True
        for listener in self._listeners:
            listener.close()
        if self._sitting and self._sitting.task:
            self._sitting.task.cancel()
            await self._sitting.ended()
        self._doors.path.unlink(missing_ok=True)

    async def _deserted(self, first_client: float, client_grace: float) -> None:
        patience = first_client
        while True:
            try:
                await asyncio.wait_for(self._arrived.wait(), patience)
            except TimeoutError:
                return
            self._arrived.clear()
            if self._sitting:
                await self._sitting.ended()
            patience = client_grace

    # -- coming in ----------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Stream(reader, writer)
        await self._admit_or_tell(Guest(client=unix_peer(client)), client)

    async def _accept_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Stream(reader, writer)
        uid = tcp_peer(client)
        if not self._doors.everybody and (uid is None or uid not in (0, self._doors.owner)):
            self._log.warning("client refused: it is of another user", uid=uid)
            client.writer.transport.abort()
            return
        await self._admit_or_tell(Guest(client="" if uid is None else user(uid)), client)

    async def _admit_or_tell(self, guest: Guest, client: Stream) -> None:
        try:
            await self._admit(guest, client)
        except SquashError as refusal:
            self._log.warning("client refused", client=guest.client, error=refusal.message)
            await self._turn_away(client, refusal)

    async def _turn_away(self, client: Stream, refusal: SquashError) -> None:
        """Answers the first that the client says, in its protocol, and closes."""
        said, answer = b"", b""
        try:
            async with asyncio.timeout(GREETING):
                while not answer and len(said) < CHUNK and (data := await client.reader.read(CHUNK)):
                    said += data
                    answer = self._language.turned_away(said, refusal.reason, refusal.message)
            client.writer.write(answer)
        except (OSError, TimeoutError):
            pass  # it gets no reason, then
        await client.close()

    async def _admit(self, guest: Guest, client: Stream) -> None:
        """Raises SquashError."""
        before = self._sitting
        if before and not before.over:
            # Who only looks keeps nobody out.
            takes_over = guest.takeover or (before.guest.looks_only and not guest.looks_only)
            if takes_over and not before.parting:
                self._turn_out(before, guest)
            await before.ended(within=None if before.parting or takes_over else LEAVING)
        if self._closed:
            raise SquashError(Reason.NOT_LISTENING, "the session is over")
        now = self._sitting
        if now and not now.over:
            since = time.strftime("%H:%M:%S UTC", time.gmtime(now.since))
            raise SquashError(Reason.SESSION_BUSY, f"{now.guest.client or 'somebody'} holds the session since {since}")
        self._sitting = sitting = Sitting(guest, client)
        sitting.task = spawn(self._serve(sitting), "debug client")
        self._arrived.set()

    def _turn_out(self, sitting: Sitting, guest: Guest) -> None:
        who = guest.client or "somebody"
        self._log.info("session taken over", client=who, was=sitting.guest.client)
        self._ears.event(guest.client, Event(Action.TAKEN_OVER, f"from {sitting.guest.client or 'somebody'}"))
        if sitting.interpreter and not sitting.client.writer.is_closing():
            sitting.client.writer.write(sitting.interpreter.last_words(f"{who} has taken over this session"))
        if sitting.task:
            sitting.task.cancel()
        # For one that does not read: closing would wait for it.
        asyncio.get_running_loop().call_later(LEAVING, sitting.client.writer.transport.abort)

    # -- being there --------------------------------------------------------------------------------

    async def _serve(self, sitting: Sitting) -> None:
        guest = sitting.guest
        read_only = self._terms.read_only or guest.read_only or guest.looks_only
        terms = self._terms._replace(read_only=read_only, looks_only=guest.looks_only)
        said = b""
        try:
            if self._halts:
                # Who says nothing, like who looks whether a port is open, is not worth a stop.
                async with asyncio.timeout(HELLO):
                    said = await sitting.client.reader.read(CHUNK)
                if not said:
                    return
            server = await self._connect(terms)
            try:
                await self._relay(sitting, server, terms, said)
            finally:
                sitting.parting = True
                server.writer.close()
                try:
                    await _see_through(self._server.disconnected(), "client left")
                finally:
                    self._parted(sitting)
        except (OSError, TimeoutError) as error:
            self._log.warning("debug server cannot be reached", error=str(error))
            if said:
                words = f"the debugger did not attach: {error}"
                sitting.client.writer.write(self._language.turned_away(said, Reason.DEBUGGER_DIED, words))
        finally:
            sitting.client.writer.close()

    async def _connect(self, terms: Terms) -> Stream:
        """A connection to the debug server. When nobody wants it any more, it is made all the same, and ended."""
        connecting = spawn(self._server.connect(terms), "connect to the debug server")
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            await asyncio.wait({connecting})
            if not connecting.exception():
                connecting.result().writer.close()
                await self._server.disconnected()
            raise

    async def _relay(self, sitting: Sitting, server: Stream, terms: Terms, said: bytes) -> None:
        name = sitting.guest.client
        whose, kept = self._kept
        interpreter = sitting.interpreter = self._language(terms, kept if whose == name else None)
        if not terms.looks_only:
            self._kept = "", {}
        self._log.info("client connected", client=name or None, read_only=terms.read_only or None)
        self._ears.connected(name)
        self._ears.event(name, Event(Action.CLIENT_CONNECTED, "read-only" if terms.read_only else ""))
        teller, looker = self._teller(name), self._looker(interpreter)
        relay = Relay(sitting.client, server, interpreter, teller, looker, said)
        standing = asyncio.get_running_loop().call_later(STANDING, self._end_standing, sitting, relay)
        try:
            await relay.run()
        finally:
            standing.cancel()
            # Its end is told at once, and not when the debugger has let go.
            sitting.client.writer.close()

    def _end_standing(self, sitting: Sitting, relay: Relay) -> None:
        """Lets a process go on that stands for somebody who cannot or does not let it."""
        interpreter = sitting.interpreter
        if not self._halts or not interpreter or interpreter.ready or not sitting.task:
            return
        if interpreter.terms.looks_only or not relay.answered:
            sitting.client.writer.write(interpreter.last_words(f"the process has stood for {STANDING:g} s"))
            sitting.task.cancel()

    def _parted(self, sitting: Sitting) -> None:
        name, interpreter = sitting.guest.client, sitting.interpreter
        if interpreter is None:
            return
        if not interpreter.terms.looks_only:
            self._kept = name, interpreter.kept
        self._log.info("client left", client=name or None, orderly=interpreter.left)
        self._ears.left()
        self._ears.event(name, Event(Action.CLIENT_LEFT, "" if interpreter.left else "without a word"))

    def _teller(self, name: str) -> Callable[[Event], None]:
        return lambda event: self._ears.event(name, event)

    def _looker(self, interpreter: Interpreter) -> Callable[[], None]:
        """Looks after each step whether the ready gate has opened, or the client can no longer be followed."""
        blind = False

        def look() -> None:
            nonlocal blind
            if interpreter.ready and not self._ready:
                self._ready = True
                self._ears.ready(interpreter.remarks())
            if interpreter.lost and not blind:
                blind = True
                self._log.warning("what passes can no longer be followed", error=interpreter.lost)

        return look


async def _see_through(work: Coroutine[Any, Any, None], name: str) -> None:
    """Waits for the end of `work`, which takes its course even when the waiting is cancelled."""
    task = spawn(work, name)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise

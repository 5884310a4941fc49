"""Joins a byte stream of this machine with a stream of the tunnel, until both have ended or one has broken."""

import asyncio
import contextlib
import select
import socket
from collections.abc import Iterator
from typing import Any

from websockets.asyncio.connection import Connection
from websockets.exceptions import ConnectionClosed

from squash.tasks import spawn
from squash.tunnel import BROKEN, CHUNK, DONE, END, MISUSED, Incoming, Outgoing, TunnelError, credit, read_credit


class Splice:
    """One stream's end on this machine. `run` once."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tunnel: Connection) -> None:
        self._reader = reader
        self._writer = writer
        self._tunnel = tunnel
        self._incoming = Incoming()
        self._outgoing = Outgoing()
        self._room = asyncio.Event()
        self._room.set()
        self.reset = False
        """Whether it broke because this machine's end was reset, as by a client that leaves without reading all."""
        self._inbox: asyncio.Queue[bytes] = asyncio.Queue()
        """What came and was not passed on: a window at most. The last is empty."""

    async def run(self) -> str:
        """Returns what broke; empty when both sides ended. Everything is closed then, also when cancelled."""
        received = spawn(self._receive(), "tunnel received")
        inwards = spawn(self._inwards(), "tunnel to socket")
        outwards = spawn(self._outwards(), "socket to tunnel")
        tasks: set[asyncio.Task[Any]] = {received, inwards, outwards}
        broken = "stopped"
        try:
            with _hangup(self._writer) as gone:
                broken = await self._until_over(received, inwards, outwards, gone)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await self._close(broken)
        return broken

    async def _until_over(
        self,
        received: "asyncio.Task[str]",
        inwards: "asyncio.Task[None]",
        outwards: "asyncio.Task[str]",
        gone: "asyncio.Future[None]",
    ) -> str:
        await asyncio.wait({received, outwards}, return_when=asyncio.FIRST_COMPLETED)
        if outwards.done() and (broken := outwards.result()):
            return broken
        if not received.done():
            # All of this side is sent. What still comes is of use only while somebody is there to take it.
            any_of: set[asyncio.Future[Any]] = {received, inwards, gone}
            await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
        if received.done():
            if broken := received.result():
                return broken
            await asyncio.wait({inwards, gone}, return_when=asyncio.FIRST_COMPLETED)
        return ""

    async def _receive(self) -> str:
        """Reads the tunnel at all times. Returns what broke; empty when it closed after everything had come."""
        try:
            while True:
                self._take(await self._tunnel.recv())
        except ConnectionClosed as error:
            closed = error.rcvd
            if closed and closed.code == DONE and self._incoming.ended:
                return ""
            return (closed.reason or f"closed with {closed.code}") if closed else "connection lost"
        except TunnelError as error:
            await self._tunnel.close(MISUSED, str(error)[:100])
            return f"the other end sent {error}"

    def _take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            if message:
                self._incoming.arrived(len(message))
                self._inbox.put_nowait(message)
        elif message == END:
            self._incoming.end()
            self._inbox.put_nowait(b"")
        else:
            self._outgoing.credited(read_credit(message))
            self._room.set()

    async def _inwards(self) -> None:
        there = True
        while data := await self._inbox.get():
            if there:
                try:
                    self._writer.write(data)
                    await self._writer.drain()
                except OSError:
                    there = False  # nobody takes it any more; what is still to be read goes out all the same
            if given := self._incoming.passed_on(len(data)):
                with contextlib.suppress(ConnectionClosed):
                    await self._tunnel.send(credit(given))
        if there:
            with contextlib.suppress(OSError):
                self._writer.write_eof()
                await self._writer.drain()

    async def _outwards(self) -> str:
        """Returns what broke; empty at the end of the data."""
        try:
            while True:
                await self._room.wait()
                data = await self._reader.read(min(CHUNK, self._outgoing.room))
                if not data:
                    await self._tunnel.send(END)
                    return ""
                self._outgoing.sent(len(data))
                if not self._outgoing.room:
                    self._room.clear()
                await self._tunnel.send(data)
        except ConnectionClosed:
            return ""  # `_receive` knows whether that was the end or a break
        except OSError as error:
            self.reset = True
            return error.strerror or str(error)

    async def _close(self, broken: str) -> None:
        if broken:
            self._writer.transport.abort()
            await self._tunnel.close(BROKEN, broken[:100])
        else:
            self._writer.close()
            await self._tunnel.close(DONE)
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


@contextlib.contextmanager
def _hangup(writer: asyncio.StreamWriter) -> "Iterator[asyncio.Future[None]]":
    """A future that is done when the peer has closed both directions, which reading alone does not tell from one."""
    loop = asyncio.get_running_loop()
    gone: asyncio.Future[None] = loop.create_future()
    sock: socket.socket = writer.get_extra_info("socket")
    # Watched for nothing but a hangup, which is always told (epoll_ctl(2)); readable when it has come.
    with select.epoll() as watch:
        number = watch.fileno()
        if sock.fileno() < 0:
            gone.set_result(None)
            yield gone
            return
        watch.register(sock.fileno(), 0)

        def happened() -> None:
            loop.remove_reader(number)
            gone.set_result(None)

        loop.add_reader(number, happened)
        try:
            yield gone
        finally:
            loop.remove_reader(number)

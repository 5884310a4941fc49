"""Debug servers that are doubles, and clients that reach them by way of a real coordinator."""

import asyncio
import hashlib
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from agent.streams import Stream
from demo.world import Child, World
from squash.calls import create_attachment, patch_attachment
from squash.client import AsyncClient
from squash.model import AttachmentSpec, DebugAttachment, Phase, State, StatusPatch
from squash.splice import Splice
from squash.tasks import spawn
from squash.tunnel import client_path
from squash.websocket import dial

Serve = Callable[[Stream], Awaitable[None]]
AGENT = "agent-of-a-test"


class Way:
    """Coordinator and agent as processes, and an attachment for each debug server."""

    def __init__(self, world: World) -> None:
        self.directory = world.directory / "doors"
        self.directory.mkdir()
        self._world = world
        self.coordinator = world.coordinator("--agent-lease", "3600")
        self._pod = f"shop-{uuid4().hex}"
        world.service(self._pod, "demo/shop", ["sh", "-c", "echo shop ready on nothing; exec sleep 600"])
        self.agent = self.start_agent()

    @property
    def url(self) -> str:
        return self.coordinator.where

    def start_agent(self) -> Child:
        argv = [sys.executable, "-m", "tests.agent.doors", self.url, AGENT, str(self.directory)]
        return self._world.start("doors", argv, stage=3)

    @asynccontextmanager
    async def server(self, serve: Serve) -> AsyncIterator[str]:
        """A debug server that does `serve` with each client; the name of its attachment."""
        async with AsyncClient(self.url) as client:
            wanted = DebugAttachment(
                spec=AttachmentSpec(attachment={"pod": self._pod, "namespace": self._world.namespace})
            )
            name = (await client.send(create_attachment(wanted))).name
            path = self.directory / name
            for step in (
                StatusPatch(state=State.ATTACHING, agent=AGENT),
                StatusPatch(phase=Phase.LISTENING, debug_server_address=f"unix:{path}", state=State.ATTACHED),
            ):
                await client.send(patch_attachment(name, step))

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stream = Stream(reader, writer)
            try:
                await serve(stream)
            except OSError:
                return
            finally:
                writer.close()

        listener = await asyncio.start_unix_server(accepted, path)
        try:
            yield name
        finally:
            listener.close()
            path.unlink(missing_ok=True)

    @asynccontextmanager
    async def client(self, name: str) -> AsyncIterator[Stream]:
        """A client of the attachment's debug server."""
        tunnel = await dial(self.url, client_path(name))
        ours, theirs = socket.socketpair()
        splicing = spawn(Splice(*await asyncio.open_connection(sock=theirs), tunnel).run(), "client's end")
        stream = Stream(*await asyncio.open_connection(sock=ours))
        try:
            yield stream
        finally:
            await stream.close()
            await splicing


async def echo(stream: Stream) -> None:
    """Says everything back, and ends when the client does."""
    while data := await stream.reader.read(65_536):
        stream.writer.write(data)
        await stream.writer.drain()


async def digest(stream: Stream) -> None:
    """Reads to the end, and then says what it was: of use only with half-close."""
    seen = hashlib.sha256()
    while data := await stream.reader.read(65_536):
        seen.update(data)
    stream.writer.write(seen.digest())


def resident(child: Child) -> int:
    """Bytes of memory in use."""
    fields = Path(f"/proc/{child.pid}/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) * 1024

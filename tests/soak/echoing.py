"""A debugger of the tests, as a plug-in: answers every DAP request with what it was asked."""

import asyncio
import json
import socket
from pathlib import Path

from agent.debuggers import Target
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding
from agent.preflight.needs import Needs
from agent.process import Process
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash import dap
from squash.tasks import spawn

GROUP = "[squash.debuggers]\nechoing = tests.soak.echoing:Echoing\n"


def install(directory: Path) -> None:
    """Makes it a plug-in for every Python that has the directory on its path."""
    place = directory / "squash_echoing-0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: squash-echoing\nVersion: 0\n")
    (place / "entry_points.txt").write_text(GROUP)


class Echoing:
    name = "echoing"
    protocol = "dap"
    needs = Needs()

    def examine(self, facts: Facts) -> tuple[Finding, ...]:
        return ()

    def claim(self, process: Process) -> float:
        return 0.0

    async def attach(self, target: Target) -> "EchoingServer":
        return EchoingServer()

    async def recover(self, directory: Path) -> None:
        """There is nothing to undo."""


class EchoingServer:
    def __init__(self) -> None:
        self._detached = asyncio.Event()

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        ours, theirs = socket.socketpair()
        server = Stream(*await asyncio.open_connection(sock=theirs))
        spawn(_answer(server), "echoing")
        return Stream(*await asyncio.open_connection(sock=ours))

    async def disconnected(self) -> None:
        """There is nothing to let go of."""

    async def ended(self) -> None:
        await self._detached.wait()

    async def detach(self) -> None:
        self._detached.set()


async def _answer(stream: Stream) -> None:
    reader, number = dap.Reader(), 0
    while data := await stream.reader.read(65_536):
        for raw in reader.feed(data):
            number += 1
            asked = json.loads(raw)
            fields = {"type": "response", "success": True, "command": asked["command"], "body": asked["arguments"]}
            stream.writer.write(dap.message(seq=number, request_seq=asked["seq"], **fields))
        await stream.writer.drain()
    await stream.close()

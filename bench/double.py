"""Debuggers of the bench, as plug-ins of the agent: nothing is attached, and the debug server is `bench.talker`."""

import asyncio
import os
from pathlib import Path

from agent.debuggers import Target
from agent.process import Process
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash.options import Address
from squash.tunnel import CHUNK

TALKER = "BENCH_TALKER"
"""Variable of the agent's environment: where the talker listens."""
_GROUP = "[squash.debuggers]\nbench-dap = bench.double:Dap\nbench-gdb = bench.double:Gdb\n"


def install(directory: Path) -> None:
    """Makes them plug-ins for every Python that has the directory on its path."""
    place = directory / "squash_bench-0.dist-info"
    place.mkdir(parents=True)
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: squash-bench\nVersion: 0\n")
    (place / "entry_points.txt").write_text(_GROUP)


class Dap:
    name = "bench-dap"
    protocol = "dap"

    def claim(self, process: Process) -> float:
        return 0.0

    async def attach(self, target: Target) -> "Server":
        return Server(Address.parse(os.environ[TALKER]))

    async def recover(self, directory: Path) -> None:
        """There is nothing to undo."""


class Gdb(Dap):
    name = "bench-gdb"
    protocol = "gdb"


class Server:
    def __init__(self, talker: Address) -> None:
        self._talker = talker
        self._detached = asyncio.Event()

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        return Stream(*await asyncio.open_connection(self._talker.host, self._talker.port, limit=CHUNK))

    async def disconnected(self) -> None:
        """There is nothing to let go of."""

    async def ended(self) -> None:
        await self._detached.wait()

    async def detach(self) -> None:
        self._detached.set()

"""A debugger comes to a service at work and goes again, many times over, and what must be true meanwhile and after.

A language joins with its `Language` and the client of its debugger (tests/drivers); nothing here is of one language.
"""

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from demo.story import facts
from demo.world import Child, World
from squash import procfs
from squash.calls import create_attachment, delete_attachment, get_attachment
from squash.client import Client
from squash.model import AttachmentSpec, DebugAttachment, State
from squash.tasks import spawn
from tests import drivers
from tests.drivers import Spot
from tests.drivers.helpers import helpers_of
from tests.drivers.languages import LOCAL, USUAL, Language, tools
from tests.eventually import eventually

RATE = 50
"""Requests a second, evenly."""
BUSY = 2
"""Threads of the service that are at work besides."""
V8_PAGE = 256 * 1024
"""Bytes."""
PATIENCE = 60.0
"""Seconds for an answer: a breakpoint may lie on its way."""


@dataclass
class Stream:
    """Requests that come at a steady rate, each with a number of its own, and what became of them."""

    where: str
    sent: int = 0
    right: int = 0
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    async def run(self) -> None:
        """Until it is cancelled; what is on its way then is waited for."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=PATIENCE, limits=limits, trust_env=False) as http:
            under_way: set[asyncio.Task[None]] = set()
            try:
                for number in itertools.count(1):
                    task = spawn(self._ask(http, number), f"request {number}")
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                    await asyncio.sleep(1 / RATE)  # the rate is what is tested
            except asyncio.CancelledError:
                if under_way:
                    await asyncio.wait(under_way)

    async def _ask(self, http: httpx.AsyncClient, number: int) -> None:
        self.sent += 1
        begun = time.monotonic()
        try:
            answer = await http.get(f"{self.where}/scaled", params={"number": number})
            found = answer.json()["answer"]
        except (httpx.HTTPError, ValueError, KeyError) as error:
            self.wrong.append(f"request {number}: {type(error).__name__} {error}")
        else:
            if found == number * USUAL:
                self.right += 1
            else:
                self.wrong.append(f"request {number}: {found}")
        self.slowest = max(self.slowest, time.monotonic() - begun)


@dataclass(frozen=True)
class Traces:
    """What may not grow: of the service, and of what lies about."""

    service: dict[str, Any]
    litter: tuple[str, ...]
    helpers: tuple[str, ...]
    threads: int

    def as_clean_as(self, before: "Traces", own_threads: int) -> bool:
        """Nothing is here that was not before, but for threads that the runtime makes for itself."""
        return replace(self, threads=before.threads) == before and self.threads <= before.threads + own_threads


class Cycles:
    """One service, one agent, and a debugger that comes and goes."""

    def __init__(self, world: World, language: Language, command: list[str], spot: Spot) -> None:
        self._language, self._spot = language, spot
        world.coordinator()
        self._agent = world.agent(environment=tools())
        self._place = {"pod": "cycled", "namespace": world.namespace}
        self._runtime = world.directory / "agent"
        self._client: Client = world.client()
        self.service: Child = world.service("cycled", "demo/cycled", [*command, "127.0.0.1:0", str(BUSY)])

    @asynccontextmanager
    async def traffic(self) -> AsyncIterator[Stream]:
        stream = Stream(self.service.where)
        running = spawn(stream.run(), "stream of requests")
        try:
            yield stream
        finally:
            running.cancel()
            await asyncio.wait({running})

    def first(self) -> None:
        """Attach and detach, with nobody there: what a process keeps of its first debugger it has after it."""
        name, _ = self._attach()
        self._detach(name)

    def cycle(self) -> None:
        """Blocks. Raises AssertionError, and what drivers raise."""
        name, address = self._attach()
        with drivers.connect(self._language.debugger, address) as client:
            client.begin(self._spot)
            # A request of the stream runs into it; which one is chance.
            assert client.stopped() == f"scaled:{self._spot.line}"
            assert client.value(LOCAL) == USUAL
            client.go_on()
            client.leave()
        self._detach(name)

    def _attach(self) -> tuple[str, str]:
        """The attachment's name and the debug server's address."""
        spec = AttachmentSpec(attachment=self._place, debugger=self._language.debugger)
        name = self._client.send(create_attachment(DebugAttachment(spec=spec))).name
        found = self._client.send(get_attachment(name, wait=PATIENCE))
        assert found.status.state is State.ATTACHED, f"{found.status.reason}: {found.status.message}"
        return name, found.status.debug_server_address or ""

    def _detach(self, name: str) -> None:
        """Returns when the agent has taken the debugger out, as its own notes tell."""
        self._client.send(delete_attachment(name))
        notes = self._runtime / "target"
        left = eventually(lambda: list(notes.iterdir()), lambda found: not found, PATIENCE)
        assert not left, f"the debugger of {name} is still there: {self.look()}"

    def look(self) -> "Traces":
        pid = self.service.pid
        status = procfs.status(pid) or {}
        seen = facts(pid) | {
            "blocked": status.get("SigBlk"),
            "files": _kinds(pid),
        }
        litter = [str(entry) for place in ("target", "client") for entry in (self._runtime / place).iterdir()]
        inside = Path(f"/proc/{pid}/root/dev/squash")
        return Traces(
            seen,
            tuple(litter + ([str(inside)] if inside.exists() else [])),
            tuple(helpers_of(pid).values()),
            int(status.get("Threads", -1)),
        )

    def agent_files(self) -> int:
        """Descriptors that the agent has open; connections to the coordinator come and go among them."""
        return len(os.listdir(f"/proc/{self._agent.pid}/fd"))

    def mappings(self) -> int:
        """But for pages of V8's heap: some come and go with each collection, and `resident` counts what is in them."""
        lines = Path(f"/proc/{self.service.pid}/maps").read_text().splitlines()
        return sum(not _is_page(*line.split()) for line in lines)

    def resident(self) -> float:
        """Megabytes."""
        return int((procfs.status(self.service.pid) or {})["VmRSS"].split()[0]) * 1024 / 1e6

    def close(self) -> None:
        self._client.close()


def _is_page(span: str, _flags: str, _offset: str, _device: str, inode: str, *name: str) -> bool:
    """Whether a mapping can be a page of V8's heap: nobody's file, and of just that size."""
    begin, end = (int(address, 16) for address in span.split("-"))
    return inode == "0" and not name and end - begin == V8_PAGE


def _kinds(pid: int) -> dict[str, int]:
    """How many descriptors there are of each kind; connections of the stream come and go, and do not count."""
    found: dict[str, int] = {}
    sockets = _connections(pid)
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed by now
            target = os.readlink(entry)
            if target not in sockets:
                kind = target.partition(":")[0]
                found[kind] = found.get(kind, 0) + 1
    return found


def _connections(pid: int) -> set[str]:
    """TCP sockets that do not listen."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{words[9]}]" for words in lines if words[3] != "0A"}

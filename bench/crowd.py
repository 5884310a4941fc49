"""A thousand held requests that are let go in the same moment: what one sidecar makes of it.

The coordinator is one of the bench's own, which has nothing to do but to say so: the real one takes its time for a
thousand changes, and would hide what is measured. So would a slow upstream, and callers that read while others wait:
an Envoy answers with the time of arrival, and the answers are read one after another.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from urllib.parse import urlsplit

import msgspec

from bench import envoy as envoys
from bench.measure import BenchError, Effort, Measurement, Tell, percentile
from bench.memory import resident
from demo.world import World
from squash.model import AttachmentPatch, AttachmentSpec, AttachmentStatus, Changes, DebugAttachment, Outcome, State
from squash.result import HEADER, MARK, parse

ROUNDS = 4
"""The first one is not counted: Envoy then makes a connection to its upstream for each, as it would without us."""
BATCH = 50
ARRIVED = "x-arrived"
PATIENCE = 60.0
"""Seconds for all of them to be held, and to be answered."""
_NOTHING = AttachmentSpec(attachment={})
_encode = msgspec.json.Encoder().encode


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    (first, *rounds), memory = asyncio.run(_measured(effort.crowd, tell))
    lags = [lag for found in rounds for lag in found]
    each = [percentile(found, 99) for found in rounds]
    notes = {"held": effort.crowd, "p50": percentile(lags, 50), "slowest": max(lags), "first": percentile(first, 99)}
    yield Measurement("crowd.lag_p99_ms", percentile(lags, 99), "ms", each, notes)
    yield Measurement("crowd.sidecar_rss_mb", max(memory), "MB", memory, {})


async def _measured(number: int, tell: Tell) -> tuple[list[list[float]], list[float]]:
    """The lags of each round in milliseconds; the sidecar's memory in MB while it holds all of them."""
    rounds, memory = [], []
    async with _listening() as double:
        with World("squash-bench-crowd") as world:
            upstream = envoys.answering(world, {ARRIVED: "%START_TIME(%s.%6f)%"})
            sidecar = world.sidecar("bench", "--server-url", double.url)
            envoy = world.envoy("bench", upstream.where, sidecar.where)
            for turn in range(ROUNDS):
                tell(f"round {turn + 1} of {ROUNDS}: {number} held, let go together")
                with contextlib.ExitStack() as open_ones:
                    callers: list[socket.socket] = []
                    # They may come as they like; what counts is that all of them wait.
                    while len(callers) < number:
                        batch = range(min(BATCH, number - len(callers)))
                        callers += [open_ones.enter_context(_call(envoy.where)) for _ in batch]
                        await double.holds(len(callers))
                    memory.append(resident(sidecar))
                    begun = double.let_go()
                    arrivals = await asyncio.to_thread(_arrivals, callers)
                memory.append(resident(sidecar))
                rounds.append([(arrived - begun) * 1000 for arrived in arrivals])
    return rounds, memory


def _call(url: str) -> socket.socket:
    """A marked request on its way."""
    parts = urlsplit(url)
    caller = socket.create_connection((parts.hostname, parts.port), PATIENCE)
    caller.sendall(f"GET / HTTP/1.1\r\nhost: bench\r\n{MARK}: 1\r\nconnection: close\r\n\r\n".encode())
    return caller


def _arrivals(callers: Sequence[socket.socket]) -> list[float]:
    return [_arrival(caller) for caller in callers]


def _arrival(caller: socket.socket) -> float:
    """Reads the answer: when the request arrived at the upstream, in seconds since the epoch."""
    answer = b"".join(iter(lambda: caller.recv(65_536), b""))
    status, *lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    said = headers.get(HEADER, "")
    if " 200 " not in status or parse(said).outcome is not Outcome.ATTACHED:
        raise BenchError(f"a held request came back with {status!r} and {said!r}")
    return float(headers[ARRIVED])


@contextlib.asynccontextmanager
async def _listening() -> AsyncIterator["Double"]:
    double = Double()
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    double.url = f"http://{host}:{port}"
    try:
        yield double
    finally:
        server.close()
        await double.alone()


class Double:
    """Creates whatever is asked for, and attaches all of it when told to."""

    def __init__(self) -> None:
        self.url = ""
        self._there: dict[str, DebugAttachment] = {}
        self._news: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._watched = False
        self._moved = asyncio.Condition()
        self._rounds = 0
        self._callers = 0

    async def alone(self) -> None:
        """Until nobody is connected any more."""
        async with self._moved:
            await self._moved.wait_for(lambda: not self._callers)

    async def holds(self, number: int) -> None:
        """Until so many are held, and the sidecar waits for news of them."""
        async with self._moved, asyncio.timeout(PATIENCE):
            await self._moved.wait_for(lambda: len(self._there) >= number and self._watched)

    def let_go(self) -> float:
        """The moment, in seconds since the epoch."""
        self._rounds += 1
        attached = AttachmentStatus(state=State.ATTACHED)
        found = [msgspec.structs.replace(each, status=attached) for each in self._there.values()]
        news = _answer(200, Changes(revision=str(self._rounds), attachments=found))
        self._there.clear()
        self._watched = False
        waiting, self._news = self._news, asyncio.get_running_loop().create_future()
        begun = time.time()
        waiting.set_result(news)
        return begun

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._callers += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = head.partition("content-length:")[2].partition("\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                writer.write(await self._route(head.split(" ", 2)[0], head.split(" ", 2)[1], body))
                await writer.drain()
        async with self._moved:
            self._callers -= 1
            self._moved.notify_all()

    async def _route(self, method: str, target: str, body: bytes) -> bytes:
        if method == "post" and target.startswith("/api/v2/debugattachment"):
            attachment = msgspec.json.decode(body, type=DebugAttachment)
            async with self._moved:
                self._there[attachment.name] = attachment
                self._moved.notify_all()
            return _answer(201, attachment)
        if method == "patch":
            patch = msgspec.json.decode(body, type=AttachmentPatch)
            return _answer(200, DebugAttachment(metadata=patch.metadata, spec=_NOTHING))
        if target.startswith("/api/v2/changes"):
            if "wait=true" not in target:
                return _answer(200, Changes(revision="0", reset=True, attachments=list(self._there.values())))
            async with self._moved:
                self._watched = True
                self._moved.notify_all()
            return await asyncio.shield(self._news)
        return _answer(404, {})


def _answer(code: int, value: object) -> bytes:
    body = _encode(value)
    return b"HTTP/1.1 %d x\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (code, len(body), body)

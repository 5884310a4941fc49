"""How many attachments the coordinator carries through, and whether finding a match stays quick."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import uvloop

from bench import cores
from bench.measure import Effort, Measurement, Tell, middle, percentile
from demo.world import Child, World
from envoy_filter.http1 import Http1Client
from squash.calls import Call, create_attachment, create_request, delete_attachment, patch_attachment
from squash.model import (
    AttachmentSpec,
    DebugAttachment,
    DebugRequest,
    Phase,
    RequestSpec,
    State,
    StatusPatch,
)

CONNECTIONS = 32
IMAGE = "bench/service"
POD = "bench"
OTHERS = 1_000
"""Images of the debug requests that are pending but cannot match."""
BLOCK = 100
"""Matches that are timed before the other coordinator has its turn."""
_REQUEST = DebugRequest(spec=RequestSpec(image=IMAGE, debugger=""))
_STEPS = (
    StatusPatch(state=State.ATTACHING, phase=Phase.STARTING, agent="bench"),
    StatusPatch(state=State.ATTACHED, phase=Phase.LISTENING, debug_server_address="unix:/bench", pid=1),
)


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    with cores.on(cores.plan().load):
        yield from _cycles(effort, tell)
        yield from _growth(effort, tell)


@dataclass(frozen=True)
class Server:
    """A coordinator as it comes, on a core of its own, and what asks it for a debugger in a process there is."""

    coordinator: Child
    create: Call[DebugAttachment]

    @property
    def url(self) -> str:
        return self.coordinator.where


def _start(world: World) -> Server:
    coordinator = world.coordinator("--max-requests-per-image", "1000000")
    cores.pin(coordinator.pid, cores.plan().measured)
    world.service(POD, IMAGE, [sys.executable, "-m", "bench.upstream"])
    place = {"pod": POD, "namespace": world.namespace}
    wanted = DebugAttachment(spec=AttachmentSpec(attachment=place, match_request=True))
    return Server(coordinator, create_attachment(wanted))


# -- whole cycles


def _cycles(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    rates, server, client = [], [], []
    with World("squash-bench-cycles") as world:
        found = _start(world)
        pid = found.coordinator.pid
        for turn in range(effort.rounds + 1):
            tell(f"cycles, {f'round {turn} of {effort.rounds}' if turn else 'warming up'}")
            before, own, begun = cores.cpu_seconds(pid), time.process_time(), time.monotonic()
            number = uvloop.run(_load(found, effort.seconds))
            wall = time.monotonic() - begun
            if turn:
                rates.append(number / wall)
                server.append((cores.cpu_seconds(pid) - before) / wall)
                client.append((time.process_time() - own) / wall)
    yield middle("coordinator.attach_per_s", "/s", rates, coordinator_busy=server, client_busy=client)


async def _load(server: Server, seconds: float) -> int:
    """How many cycles were done within the time."""
    client = Http1Client(server.url)
    until = time.monotonic() + seconds
    try:
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(_work(client, server, until)) for _ in range(CONNECTIONS)]
        return sum(worker.result() for worker in workers)
    finally:
        client.close()


async def _work(client: Http1Client, server: Server, until: float) -> int:
    number = 0
    while time.monotonic() < until:
        await client.send(create_request(_REQUEST))
        attachment = await client.send(server.create)
        for step in _STEPS:
            await client.send(patch_attachment(attachment.name, step))
        await client.send(delete_attachment(attachment.name))
        number += 1
    return number


# -- matching


def _growth(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    with ExitStack() as stack:
        sizes = (effort.few, effort.many)
        found = [_start(stack.enter_context(World("squash-bench-match"))) for _ in sizes]
        for size, server in zip(sizes, found, strict=True):
            tell(f"matching, making {size} debug requests")
            uvloop.run(_fill(server.url, size))
        blocks: tuple[list[list[float]], list[list[float]]] = ([], [])
        number = effort.rounds * 3
        for turn in range(number + 1):
            tell(f"matching, {f'block {turn} of {number}' if turn else 'warming up'}")
            for times, server in zip(blocks, found, strict=True):
                took = uvloop.run(_match(server))
                if turn:
                    times.append(took)
    few, many = ([percentile(block, 50) for block in times] for times in blocks)
    ratios = [b / a for a, b in zip(few, many, strict=True)]
    yield middle("coordinator.match_growth", "", ratios, few_p50_ms=few, many_p50_ms=many, pending=sizes)
    every = [took for block in blocks[1] for took in block]
    slow = [percentile(block, 99) for block in blocks[1]]
    yield Measurement("coordinator.match_p50_ms", percentile(every, 50), "ms", many)
    yield Measurement("coordinator.match_p99_ms", percentile(every, 99), "ms", slow, {"slowest": max(every)})


async def _fill(url: str, number: int) -> None:
    """Half of them could match, the rest are for other images."""
    client = Http1Client(url)
    images = iter([IMAGE if n % 2 else f"bench/other-{n % OTHERS}" for n in range(number)])

    async def work() -> None:
        for image in images:
            await client.send(create_request(DebugRequest(spec=RequestSpec(image=image, debugger=""))))

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(CONNECTIONS):
                group.create_task(work())
    finally:
        client.close()


async def _match(server: Server) -> list[float]:
    """Milliseconds of each matching POST; as many requests are pending after it as before."""
    client = Http1Client(server.url)
    took = []
    try:
        for _ in range(BLOCK):
            begun = time.monotonic()
            attachment = await client.send(server.create)
            took.append((time.monotonic() - begun) * 1000)
            await client.send(delete_attachment(attachment.name))
            await client.send(create_request(_REQUEST))
    finally:
        client.close()
    return took

"""From pod, namespace and container to the process to debug, on a node with a thousand processes."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

from agent import debuggers
from agent.choice import pick
from agent.containers.cri import CriContainers
from agent.containers.members import CGROUPS
from bench import runtime
from bench.measure import Effort, Measurement, Tell
from demo.world import World
from squash.model import AttachmentSpec
from squash.runtimes.cri import Cri
from squash.settings import AgentSettings

PROCESSES = 1_000
TURNS = 100
"""In each round."""
POD = "bench-resolve"
_CROWD = """
import os, signal, sys
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        signal.pause()
print("crowd ready on nothing", flush=True)
signal.pause()
"""
_SERVICE = "import time; print('app ready on nothing', flush=True); time.sleep(100000)"


_CGROUPS = ("", "pids", "memory")
"""Of version 2, and two hierarchies of version 1."""


@contextmanager
def cgroup() -> Iterator[Path | None]:
    """A cgroup for the container, as a runtime makes one; None where that may not be done."""
    made = None
    for controller in _CGROUPS:
        place = CGROUPS / controller
        if (place / "cgroup.procs").exists():
            with suppress(OSError):
                (place / runtime.ident(POD)).mkdir()
                made = place / runtime.ident(POD)
                break
    try:
        yield made
    finally:
        if made:
            made.rmdir()


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    with cgroup() as place, World("squash-bench-resolve") as world:
        tell(f"starting {PROCESSES} processes")
        world.start("crowd", [sys.executable, "-S", "-c", _CROWD, str(PROCESSES)], stage=2)
        # As many images start it: a shell that waits for the service.
        service = f'{sys.executable} -c "{_SERVICE}"; exit 1'
        enter = f"echo 0 > {place}/cgroup.procs; " if place else ""
        init = world.start("service", ["sh", "-c", enter + service], stage=2)
        socket = world.directory / "runtime.sock"
        world.start("runtime", [sys.executable, "-m", "bench.runtime", str(socket), POD, str(init.pid)], stage=1)
        yield from asyncio.run(_rounds(socket, effort.rounds, tell))


async def _rounds(socket: Path, rounds: int, tell: Tell) -> list[Measurement]:
    containers = CriContainers(AgentSettings(runtime_socket=socket))
    plugins = debuggers.installed()
    named = {"pod": POD, "namespace": "default", "container": "app"}
    known: list[float] = []
    listed: list[float] = []
    calls: list[float] = []

    async def resolve(attachment: dict[str, Any]) -> None:
        pick(await containers.processes(attachment), plugins, AttachmentSpec(attachment=attachment))

    async with Cri(socket) as cri:
        for turn in range(rounds + 1):
            tell(f"{f'round {turn} of {rounds}' if turn else 'warming up'}")
            took = await _in_turn(
                lambda: cri.pid(runtime.ident(POD)),
                lambda: resolve({**named, "id": runtime.ident(POD)}),
                lambda: resolve(named),
            )
            if turn:
                call, by_id, by_list = took
                calls.append(call)
                known.append(by_id - call)
                listed.append(by_list - call)
    await containers.close()
    return [
        Measurement("resolve.added_ms", median(known), "ms", known, {"processes": PROCESSES, "status_ms": calls}),
        Measurement("resolve.listed_added_ms", median(listed), "ms", listed),
        Measurement("resolve.status_ms", median(calls), "ms", calls),
    ]


async def _in_turn(*ways: Callable[[], Awaitable[object]]) -> list[float]:
    """The median milliseconds of each, taken by turns: whatever else the machine does befalls all of them."""
    took: list[list[float]] = [[] for _ in ways]
    for _ in range(TURNS):
        for way, times in zip(ways, took, strict=True):
            began = time.perf_counter()
            await way()
            times.append((time.perf_counter() - began) * 1000)
    return [median(times) for times in took]

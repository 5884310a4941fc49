"""How long a held request takes to reach its upstream once the debugger is attached, with many held at once."""

import asyncio
import sys
import time
from collections.abc import Iterator

from bench.measure import BenchError, Effort, Measurement, Tell, percentile
from demo.caller import Request
from demo.world import Child, World
from envoy_filter.http1 import Http1Client
from squash.calls import create_request, delete_attachment, list_attachments, patch_attachment
from squash.model import DebugAttachment, DebugRequest, Outcome, RequestSpec, State, StatusPatch

IMAGE = "bench/upstream"
ROUNDS = 3
PATIENCE = 30.0
"""Seconds for all of them to be held."""


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    with World("squash-bench-holds") as world:
        # The benchmark is the agent, and takes its time.
        coordinator = world.coordinator("--agent-lease", "3600")
        service = world.service("bench", IMAGE, [sys.executable, "-m", "bench.upstream"])
        sidecar = world.sidecar("bench")
        envoy = world.envoy("bench", service.where, sidecar.where)
        rounds = []
        for turn in range(ROUNDS):
            tell(f"round {turn + 1} of {ROUNDS}: {effort.held} held, let go one by one")
            rounds.append(asyncio.run(_round(coordinator, envoy, effort.held)))
    lags = [lag for found in rounds for lag in found]
    for percent in (50, 99):
        each = [percentile(found, percent) for found in rounds]
        notes = {"held": effort.held, "slowest": max(lags), "lags": rounds if percent == 50 else []}
        yield Measurement(f"hold.lag_p{percent}_ms", percentile(lags, percent), "ms", each, notes)


async def _round(coordinator: Child, envoy: Child, number: int) -> list[float]:
    """The lag of each request in milliseconds, in the order in which they were let go."""
    client = Http1Client(coordinator.where)
    try:
        for _ in range(number):
            await client.send(create_request(DebugRequest(spec=RequestSpec(image=IMAGE, debugger=""))))
        requests = {f"/{n}": Request(f"{envoy.where}/{n}", marked=True) for n in range(number)}
        lags = [await _let_go(client, found, requests) for found in await _held(client, number)]
        for attachment in await client.send(list_attachments()):
            await client.send(delete_attachment(attachment.name))
        return lags
    finally:
        client.close()


async def _held(client: Http1Client, number: int) -> list[DebugAttachment]:
    """All of them, once they are there; raises BenchError when they do not come."""
    deadline = time.monotonic() + PATIENCE
    # The API has no call that waits for a number of attachments.
    while len(found := await client.send(list_attachments(states=[State.NONE]))) < number:
        if time.monotonic() > deadline:
            raise BenchError(f"only {len(found)} of {number} requests are held after {PATIENCE:g} s")
        await asyncio.sleep(0.05)
    return found


async def _let_go(client: Http1Client, attachment: DebugAttachment, requests: dict[str, Request]) -> float:
    path = attachment.spec.held.path if attachment.spec.held else None
    # Our caller always writes the question mark.
    request = requests[(path or "").rstrip("?")]
    begun = time.monotonic()
    await client.send(patch_attachment(attachment.name, StatusPatch(state=State.ATTACHED)))
    answer = await asyncio.to_thread(request.answer)
    if answer.result is None or answer.result.outcome is not Outcome.ATTACHED:
        raise BenchError(f"a held request came back with {answer.status} and {answer.result}")
    arrived: float = answer.body["arrived"]
    return (arrived - begun) * 1000

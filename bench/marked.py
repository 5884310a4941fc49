"""What a marked request costs that nobody waits for: over unmarked ones through the same Envoy, in turn."""

import http.client
import sys
import time
from collections.abc import Iterator

from bench.front_ends import grpc_address
from bench.measure import BenchError, Effort, Measurement, Tell, percentile
from demo.world import Child, World
from envoy_filter.front_end import FrontEnd
from squash.model import Outcome
from squash.result import HEADER, MARK, parse

ROUNDS = 3
PER_ROUND = 100
"""Times `Effort.rounds`: requests of either kind in a round."""
WARM_UP = 50


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    with World("squash-bench-marked") as world:
        world.coordinator()
        for end in FrontEnd:
            envoy = _envoy(world, end)
            rounds = []
            for turn in range(ROUNDS):
                tell(f"{end}, round {turn + 1} of {ROUNDS}")
                rounds.append(_round(envoy, PER_ROUND * effort.rounds))
            yield from _added(end, rounds)


def _added(end: FrontEnd, rounds: list[tuple[list[float], list[float]]]) -> Iterator[Measurement]:
    marked, unmarked = ([each for found in rounds for each in found[kind]] for kind in (0, 1))
    for percent in (50, 99):
        each = [percentile(ours, percent) - percentile(bare, percent) for ours, bare in rounds]
        value = percentile(marked, percent) - percentile(unmarked, percent)
        notes = {"marked_ms": percentile(marked, percent), "unmarked_ms": percentile(unmarked, percent)}
        yield Measurement(f"marked.{end}_added_p{percent}_ms", value, "ms", each, notes)


def _envoy(world: World, end: FrontEnd) -> Child:
    over_grpc, pod = end is FrontEnd.GRPC, f"bench-{end}"
    service = world.service(pod, "bench/upstream", [sys.executable, "-m", "bench.upstream"])
    sidecar = world.sidecar(pod, *(("--grpc-listen", "127.0.0.1:0") if over_grpc else ()))
    where = str(grpc_address(sidecar) if over_grpc else sidecar.address)
    return world.envoy(pod, service.where, where, "--front-end", end)


def _round(envoy: Child, number: int) -> tuple[list[float], list[float]]:
    """Milliseconds of marked and of unmarked requests."""
    client = http.client.HTTPConnection(envoy.address.host, envoy.address.port)
    took: tuple[list[float], list[float]] = [], []
    try:
        for turn in range(number + WARM_UP):
            for times, headers in zip(took, ({MARK: "1"}, {}), strict=True):
                each = _ask(client, headers)
                if turn >= WARM_UP:
                    times.append(each)
    finally:
        client.close()
    return took


def _ask(client: http.client.HTTPConnection, headers: dict[str, str]) -> float:
    begun = time.monotonic()
    client.request("GET", "/", headers=headers)
    answer = client.getresponse()
    answer.read()
    took = (time.monotonic() - begun) * 1000
    said = answer.getheader(HEADER)
    if answer.status != 200 or (said and parse(said).outcome) != (Outcome.NO_MATCH if headers else None):
        raise BenchError(f"a request with {headers} was answered by {answer.status} and {said}")
    return took

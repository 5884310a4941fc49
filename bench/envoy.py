"""What an unmarked request pays for our filter: the same Envoy with it and without any trace of it, in turn."""

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench import cores
from bench.measure import BenchError, Effort, Measurement, Tell, middle
from demo.world import Child, World
from envoy_filter.envoy import ARMED, EnvoySettings, bootstrap
from envoy_filter.front_end import FILTER, SIDECAR
from envoy_filter.yaml import plain
from squash.options import Address

CONNECTIONS = 64
"""Enough to keep one Envoy worker busy all the time."""
WARM_UP = 1.0
"""Seconds."""
STARTS = 3
"""Two processes of one program are not equally fast: where its memory lies makes some percent."""
BUSY = 0.9
"""Part of the time that Envoy must have been computing for a run to count."""
LEAST = 5
"""Undisturbed pairs without which there is no figure."""
BAGGAGE = ("baggage: user=alice,plan=gold;tier=1,region=eu%20west",)
"""What services that propagate trace context send along; it marks nothing, but has to be looked at."""
_FREE = Address("127.0.0.1", 0)
Config = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run of the load. `busy` is the part of the time in which Envoy was computing."""

    per_second: float
    per_cpu_second: float
    busy: float


@dataclass(frozen=True)
class Pair:
    """Two runs right after each other."""

    ours: Run
    bare: Run

    @property
    def calm(self) -> bool:
        """False when something else had Envoy's core, or the load did not suffice: such a pair says nothing."""
        return min(self.ours.busy, self.bare.busy) >= BUSY


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    with World("squash-bench-envoy") as world:
        upstream = answering(world)
        proxied = printed(upstream.address, sidecar(world))
        problems = []
        kinds = (("direct", direct(proxied), ()), ("proxied", proxied, ()), ("baggage", proxied, BAGGAGE))
        for kind, config, headers in kinds:
            try:
                yield from _compare(world, kind, config, headers, effort, tell)
            except BenchError as error:
                problems.append(f"{kind}: {error}")
        if problems:
            raise BenchError("; ".join(problems))


def answering(world: World, headers: Mapping[str, str] = {}) -> Child:
    """An upstream that is fast: an Envoy that answers by itself, with these `headers` (which may have %COMMANDS%)."""
    config = without(direct(printed(_FREE, _FREE)))
    told = [{"header": {"key": name, "value": value}} for name, value in headers.items()]
    _virtual_host(config)["response_headers_to_add"] = told
    return _start(world, "upstream", config, cores.plan().upstream)


def direct(config: Config) -> Config:
    """Has Envoy answer unmarked requests by itself."""
    changed = _copy(config)
    for route in _virtual_host(changed)["routes"]:
        if "headers" not in route["match"] and route["route"]["cluster"] not in (SIDECAR, ARMED):
            del route["route"]
            route["direct_response"] = {"status": 200, "body": {"inline_string": "ok\n"}}
    return changed


def without(config: Config) -> Config:
    """The configuration as it would be if we were not: no filter, no access log, none of our routes, no sidecar."""
    changed = _copy(config)
    manager = _manager(changed)
    manager["http_filters"] = [one for one in manager["http_filters"] if not one["name"].startswith(FILTER)]
    manager.pop("access_log", None)
    host = _virtual_host(changed)
    host["routes"] = [route for route in host["routes"] if not _ours(route)]
    resources = changed["static_resources"]
    resources["clusters"] = [one for one in resources["clusters"] if one["name"] not in (SIDECAR, ARMED)]
    for key in ("node", "layered_runtime"):
        del changed[key]
    return changed


def pasted(config: Config, pieces: Config) -> Config:
    """An Envoy of one's own with the pieces of `squashctl envoy config --snippet`: every request meets the matchers."""
    changed, bare = _copy(config), without(config)
    _manager(changed)["http_filters"] = pieces["http_filters"] + _manager(bare)["http_filters"]
    _virtual_host(changed)["routes"] = _virtual_host(bare)["routes"] + pieces["routes"]
    return changed


def _ours(route: Config) -> bool:
    cluster, match = route.get("route", {}).get("cluster"), route["match"]
    return cluster in (SIDECAR, ARMED) or "runtime_fraction" in match or "headers" in match


def _compare(
    world: World, kind: str, config: Config, headers: Sequence[str], effort: Effort, tell: Tell
) -> Iterator[Measurement]:
    pairs = compared(world, kind, config, without(config), headers, effort, tell)
    yield middle(f"unmarked.{kind}_ratio", "", ratios(pairs), pairs=[asdict(pair) for pair in pairs])
    yield middle(f"unmarked.{kind}_cpu_ratio", "", cpu_ratios(pairs))


def ratios(pairs: Sequence[Pair]) -> list[float]:
    return [pair.ours.per_second / pair.bare.per_second for pair in pairs if pair.calm]


def cpu_ratios(pairs: Sequence[Pair]) -> list[float]:
    return [pair.ours.per_cpu_second / pair.bare.per_cpu_second for pair in pairs if pair.calm]


def compared(
    world: World, kind: str, config: Config, other: Config, headers: Sequence[str], effort: Effort, tell: Tell
) -> list[Pair]:
    """Runs of an Envoy with this configuration and of one with the other. Raises BenchError for too few calm ones."""
    pairs: list[Pair] = []
    for start in range(STARTS):
        ours = _start(world, f"{kind}-ours", config, cores.plan().measured)
        bare = _start(world, f"{kind}-bare", other, cores.plan().measured)
        for pair in _pairs(ours, bare, headers, effort):
            pairs.append(pair)
            tell(f"{kind}, start {start + 1} of {STARTS}: {pair.ours.per_second:.0f}/s : {pair.bare.per_second:.0f}/s")
        for child in (ours, bare):
            child.stop()
    calm = sum(pair.calm for pair in pairs)
    if calm < LEAST:
        raise BenchError(
            f"only {calm} of {len(pairs)} pairs of runs were undisturbed: other programs had Envoy's core; "
            "try again when the machine has less to do"
        )
    return pairs


def _pairs(ours: Child, bare: Child, headers: Sequence[str], effort: Effort) -> Iterator[Pair]:
    """Until there are enough calm ones; at most twice as many as that."""
    for child in (ours, bare):
        _load(child, WARM_UP, headers)
    # Many short runs tell more than few long ones: two side by side see the same machine.
    # As many with either first: who comes second has another pair of caches.
    wanted, seconds = (effort.rounds // STARTS + 1) * 2, effort.seconds / 2
    calm = 0
    for turn in range(wanted * 2):
        # Whatever drifts with time weighs on both alike.
        if turn % 2:
            first, second = _load(ours, seconds, headers), _load(bare, seconds, headers)
            pair = Pair(first, second)
        else:
            first, second = _load(bare, seconds, headers), _load(ours, seconds, headers)
            pair = Pair(second, first)
        yield pair
        calm += pair.calm
        if calm == wanted:
            return


def _load(child: Child, seconds: float, headers: Sequence[str]) -> Run:
    given = [word for header in headers for word in ("-H", header)]
    argv = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", *given, child.where]
    before, begun = cores.cpu_seconds(child.pid), time.monotonic()
    with cores.on(cores.plan().load):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    wall, cpu = time.monotonic() - begun, cores.cpu_seconds(child.pid) - before
    per_second, number = read_wrk(done.stdout + done.stderr)
    return Run(per_second, number / cpu if cpu else 0.0, cpu / wall)


def read_wrk(said: str) -> tuple[float, int]:
    """Requests per second and how many there were, from wrk's words. Raises BenchError when some went wrong."""
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", said, re.MULTILINE)
    number = re.search(r"^\s*(\d+) requests in ", said, re.MULTILINE)
    wrong = re.search(r"^\s*(Socket errors: .*|Non-2xx.*)", said, re.MULTILINE)
    if wrong or not rate or not number:
        raise BenchError(f"wrk: {wrong[1] if wrong else said.strip()[-300:]}")
    return float(rate[1]), int(number[1])


def sidecar(world: World) -> Address:
    """Unmarked requests never reach it; it is there because it would be."""
    world.coordinator()
    return world.sidecar("bench").address


def printed(upstream: Address, sidecar: Address) -> Config:
    """Just what `squashctl envoy config` prints."""
    config: Config = plain(bootstrap(EnvoySettings(listen=_FREE, upstream=upstream, sidecar=sidecar, admin=_FREE)))
    return config


def _start(world: World, name: str, config: Config, core: int) -> Child:
    child = world.bare_envoy(name, json.dumps(config))
    cores.pin(child.pid, core)
    return child


def _copy(config: Config) -> Config:
    copy: Config = json.loads(json.dumps(config))
    return copy


def _manager(config: Config) -> Config:
    manager: Config = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


def _virtual_host(config: Config) -> Config:
    host: Config = _manager(config)["route_config"]["virtual_hosts"][0]
    return host

"""What an unmarked request pays for each front end: whole bootstraps, and the pieces for an Envoy of one's own.

The whole bootstrap with Lua is measured by `bench.envoy`.
"""

import re
from collections.abc import Iterator

from bench import envoy
from bench.envoy import Config, compared, cpu_ratios, direct, pasted, ratios, without
from bench.measure import BenchError, Effort, Measurement, Tell, middle
from demo.world import Child, World
from envoy_filter.envoy import EnvoySettings, bootstrap, snippet
from envoy_filter.front_end import FrontEnd
from envoy_filter.yaml import plain
from squash.options import Address

_FREE = Address("127.0.0.1", 0)


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    problems = []
    with World("squash-bench-front-ends") as world:
        world.coordinator()
        upstream = envoy.answering(world)
        for end in FrontEnd:
            for kind, config in _configs(end, upstream.address, sidecar(world, end)):
                try:
                    pairs = compared(world, kind, config, without(config), (), effort, tell)
                except BenchError as error:
                    problems.append(f"{kind}: {error}")
                else:
                    notes = {"calm": len(ratios(pairs)), "pairs": len(pairs), "cpu_ratios": cpu_ratios(pairs)}
                    yield middle(f"unmarked.{kind}_ratio", "", ratios(pairs), **notes)
    if problems:
        raise BenchError("; ".join(problems))


def sidecar(world: World, end: FrontEnd) -> Address:
    """Where a sidecar answers this front end."""
    options = ("--grpc-listen", "127.0.0.1:0") if end is FrontEnd.GRPC else ()
    child = world.sidecar(f"bench-{end}", *options)
    return grpc_address(child) if options else child.address


def grpc_address(child: Child) -> Address:
    """Where a sidecar that is ready answers over gRPC, as it says in its log."""
    said = re.search(r"answers ext_authz over gRPC.*listen=(\S+)", child.log.read_text())
    if not said:
        raise BenchError(f"{child.name} does not say where it answers over gRPC: {child.last_words()}")
    return Address.parse(said[1])


def _configs(end: FrontEnd, upstream: Address, listening: Address) -> Iterator[tuple[str, Config]]:
    settings = EnvoySettings(listen=_FREE, upstream=upstream, sidecar=listening, admin=_FREE, front_end=end)
    whole: Config = plain(bootstrap(settings))
    own = pasted(whole, plain(snippet(settings)))
    if end is not FrontEnd.LUA:
        yield f"{end}_proxied", whole
        yield f"{end}_direct", direct(whole)
    yield f"{end}_snippet_proxied", own
    yield f"{end}_snippet_direct", direct(own)

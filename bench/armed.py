"""What a request that does not fail pays while Envoy looks out for those that do: armed and not armed, in turn."""

from collections.abc import Iterator

from bench import envoy
from bench.envoy import Config, compared, cpu_ratios, ratios
from bench.measure import BenchError, Effort, Measurement, Tell, middle
from demo.world import World
from envoy_filter.auto import LAYER
from envoy_filter.lookout import Kind


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    problems = []
    with World("squash-bench-armed") as world:
        sidecar = envoy.sidecar(world)
        config = envoy.printed(envoy.answering(world).address, sidecar)
        # The third kind asks about each request, for a minute after a slow one: that is no request without failure.
        for kind in (Kind.FAILURE, Kind.LATENCY):
            on, off = looking_out(config, kind), looking_out(config)
            try:
                pairs = compared(world, f"armed_{kind}", on, off, (), effort, tell)
            except BenchError as error:
                problems.append(f"{kind}: {error}")
            else:
                notes = {"calm": len(ratios(pairs)), "pairs": len(pairs), "cpu_ratios": cpu_ratios(pairs)}
                yield middle(f"armed.{kind}_ratio", "", ratios(pairs), **notes)
    if problems:
        raise BenchError("; ".join(problems))


def looking_out(config: Config, what: Kind = Kind.IDLE) -> Config:
    """The configuration with the values that the sidecar would tell fixed, so that no discovery weighs on one side."""
    values = {f"{LAYER}.{kind}": 100 if kind is what else 0 for kind in Kind}
    return config | {"layered_runtime": {"layers": [{"name": LAYER, "static_layer": values}]}}

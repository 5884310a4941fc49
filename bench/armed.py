"""What a request that does not fail pays while Envoy looks out for those that do: armed and not armed, in turn."""

from collections.abc import Iterator

from bench import envoy
from bench.envoy import Config, compared, cpu_ratios, ratios
from bench.measure import BenchError, Effort, Measurement, Tell, middle
from demo.world import World
from envoy_filter.auto import LAYER
from envoy_filter.lookout import Kind
from envoy_filter.told import SLOW_FROM


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    problems = []
    with World("squash-bench-armed") as world:
        sidecar = envoy.sidecar(world)
        config = envoy.printed(envoy.answering(world).address, sidecar)
        # The third kind asks about each request, for a minute after a slow one: that is no request without failure.
        for name, on in (
            ("failure", looking_out(config, Kind.FAILURE)),
            ("latency", looking_out(config, slow_from=1_000)),
        ):
            try:
                pairs = compared(world, f"armed_{name}", on, looking_out(config), (), effort, tell)
            except BenchError as error:
                problems.append(f"{name}: {error}")
            else:
                notes = {"calm": len(ratios(pairs)), "pairs": len(pairs), "cpu_ratios": cpu_ratios(pairs)}
                yield middle(f"armed.{name}_ratio", "", ratios(pairs), **notes)
    if problems:
        raise BenchError("; ".join(problems))


def looking_out(config: Config, what: Kind = Kind.IDLE, slow_from: int | None = None) -> Config:
    """The configuration with the values that the sidecar would tell fixed, so that no discovery weighs on one side."""
    values = {f"{LAYER}.{kind}": 100 if kind is what else 0 for kind in Kind}
    if slow_from is not None:
        values[f"{LAYER}.{SLOW_FROM}"] = slow_from
    return config | {"layered_runtime": {"layers": [{"name": LAYER, "static_layer": values}]}}

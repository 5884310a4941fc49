"""What the programs keep in memory when there is nothing to do."""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Effort, Measurement, Tell, middle
from demo.caller import get
from demo.world import Child, World
from squash.procfs import status

STARTS = 3
QUIET = 2.0
"""Seconds without anything to do before memory is read."""


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    found: dict[str, list[tuple[float, float]]] = {}
    for start in range(STARTS):
        tell(f"start {start + 1} of {STARTS}")
        with World("squash-bench-memory") as world:
            for name, child in _programs(world).items():
                found.setdefault(name, []).append((resident(child), proportional(child)))
    for name, values in found.items():
        yield middle(f"{name}.rss_mb", "MB", [rss for rss, _ in values], pss_mb=[pss for _, pss in values])


def _programs(world: World) -> dict[str, Child]:
    """All of them, after they have done their work once: what is read lazily has been read by then."""
    coordinator = world.coordinator()
    agent = world.agent()
    service = world.service("bench", "bench/upstream", [sys.executable, "-m", "bench.upstream"])
    sidecar = world.sidecar("bench")
    envoy = world.envoy("bench", service.where, sidecar.where)
    get(f"{envoy.where}/", marked=True)
    time.sleep(QUIET)  # idle is what nothing happens in
    return {"sidecar": sidecar, "agent": agent, "coordinator": coordinator}


def resident(child: Child) -> float:
    """MB (10⁶ bytes) in memory."""
    return _kibibytes((status(child.pid) or {})["VmRSS"])


def proportional(child: Child) -> float:
    """The same, what several processes share being divided among them."""
    lines = Path(f"/proc/{child.pid}/smaps_rollup").read_text().splitlines()
    return _kibibytes(next(line for line in lines if line.startswith("Pss:")).partition(":")[2])


def _kibibytes(text: str) -> float:
    """`1024 kB`, in which proc(5) means 1024 bytes by kB."""
    return int(text.split(maxsplit=1)[0]) * 1024 / 1e6

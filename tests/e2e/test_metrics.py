"""docs/metrics.md lists just what the programs tell Prometheus."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from demo.world import World

PAGE = Path(__file__).parents[2] / "docs/metrics.md"
Row = tuple[str, str, frozenset[str]]
"""Name, type and labels."""


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, list[Metric]]]:
    with World("squash-metrics") as world:
        programs = {"squash-coordinator": world.coordinator(), "squash-sidecar": world.sidecar("metrics-1")}
        # The second answer counts the first one, so that its labels show.
        for _ in range(2):
            texts = {
                name: httpx.get(f"{child.where}/metrics", trust_env=False).text for name, child in programs.items()
            }
        yield {name: list(text_string_to_metric_families(text)) for name, text in texts.items()}


def _metrics(url: str) -> str:
    return httpx.get(f"{url}/metrics", trust_env=False).text


def own(found: list[Metric]) -> set[Row]:
    """What is ours of it, without the times of creation that the library adds."""
    rows = set()
    for metric in found:
        if metric.name.startswith("squash_") and not metric.name.endswith("_created"):
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            labels = frozenset(label for sample in metric.samples for label in sample.labels) - {"le"}
            rows.add((name, metric.type, labels))
    return rows


def documented(program: str) -> set[Row]:
    section = PAGE.read_text().split(f"\n## {program}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([^|]*)\|", section, re.MULTILINE)
    return {(name, kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


@pytest.mark.parametrize("program", ["squash-coordinator", "squash-sidecar"])
def test_the_page_lists_what_there_is(program: str, told: dict[str, list[Metric]]) -> None:
    found, listed = own(told[program]), documented(program)
    # Counters that have not counted yet show no labels.
    unused = {name for name, kind, labels in found if kind == "counter" and not labels}
    assert {row[:2] for row in found} == {row[:2] for row in listed}, "docs/metrics.md has to list each metric"
    assert {row for row in found if row[0] not in unused} == {row for row in listed if row[0] not in unused}


@pytest.mark.parametrize("program", ["squash-coordinator", "squash-sidecar"])
def test_names_follow_the_conventions(program: str, told: dict[str, list[Metric]]) -> None:
    for metric in told[program]:
        assert re.fullmatch(r"(squash|process)(_[a-z]+)+", metric.name)
        assert metric.documentation
        if metric.type == "histogram":
            assert metric.name.endswith(("_seconds", "_bytes"))
        if metric.type == "gauge":
            assert not metric.name.endswith("_total")

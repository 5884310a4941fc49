"""For how long a runtime's word on an image is believed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from squash.runtimes import cri
from squash.runtimes.cri import Cri, CriContainer


class Images(Cri):
    """A runtime that has one tag for every reference, and counts."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.tag = "shop:1"
        self.asked: list[str] = []

    async def _call(self, name: str, service: str = "", **fields: Any) -> Any:
        self.asked.append(fields["image"]["image"])
        return SimpleNamespace(image=SimpleNamespace(repo_tags=[self.tag], repo_digests=[], id="sha256:1"))


def container(image: str) -> CriContainer:
    return CriContainer("c", "pod", "ns", "app", "", image, 0)


async def test_a_tag_that_was_moved_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(cri, "time", SimpleNamespace(monotonic=lambda: now))
    runtime = Images()
    assert "shop:1" in await runtime.image_names(container("ref"))
    runtime.tag = "shop:2"
    now += cri.FRESH - 1
    assert "shop:1" in await runtime.image_names(container("ref"))
    now += 1
    assert "shop:2" in await runtime.image_names(container("ref"))
    assert runtime.asked == ["ref", "ref"]


async def test_the_longest_known_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cri, "_REMEMBERED", 2)
    runtime = Images()
    for reference in ("a", "b", "c", "b", "c", "a"):
        await runtime.image_names(container(reference))
    assert runtime.asked == ["a", "b", "c", "a"]

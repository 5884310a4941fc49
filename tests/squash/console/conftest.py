"""Fixtures of the console's tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.world import World
from tests.squash.console.bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with World("sq") as world:
        made = Bench(world, tmp_path)
        try:
            yield made
        finally:
            made.client.close()

"""A coordinator and an agent, as processes, and services for them to find."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.world import World
from tests.agent.java import build
from tests.agent.targets import NAMESPACE


@pytest.fixture
def world() -> Iterator[World]:
    with World("sq", NAMESPACE) as found:
        yield found


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Java's, compiled."""
    return build(tmp_path_factory.mktemp("java"))

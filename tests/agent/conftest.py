"""A coordinator and an agent, as processes, and services for them to find."""

from collections.abc import Iterator

import pytest

from demo.world import World
from tests.agent.targets import NAMESPACE


@pytest.fixture
def world() -> Iterator[World]:
    with World("sq", NAMESPACE) as found:
        yield found

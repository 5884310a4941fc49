"""A coordinator and an agent, as processes, and services for them to find."""

from collections.abc import Iterator

import pytest

from demo.world import World


@pytest.fixture
def world() -> Iterator[World]:
    with World("sq") as found:
        yield found

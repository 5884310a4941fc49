"""Fixtures of the filter's tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envoy_filter.front_end import FrontEnd
from tests.envoy_filter.calling import Caller, calling
from tests.envoy_filter.coordinator_double import CoordinatorDouble


@pytest.fixture(params=FrontEnd)
def front_end(request: pytest.FixtureRequest) -> FrontEnd:
    """How Envoy asks the sidecar: a test that takes it runs with each."""
    return FrontEnd(request.param)


@pytest.fixture
async def double() -> AsyncIterator[CoordinatorDouble]:
    """A coordinator of the tests' own."""
    async with CoordinatorDouble() as server:
        yield server


@pytest.fixture
async def caller(tmp_path: Path, double: CoordinatorDouble) -> AsyncIterator[Caller]:
    async with calling(tmp_path, double) as caller:
        yield caller

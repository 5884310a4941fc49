"""Fixtures of the filter's tests."""

from collections.abc import AsyncIterator

import pytest

from tests.envoy_filter.coordinator_double import CoordinatorDouble


@pytest.fixture
async def double() -> AsyncIterator[CoordinatorDouble]:
    """A coordinator of the tests' own."""
    async with CoordinatorDouble() as server:
        yield server

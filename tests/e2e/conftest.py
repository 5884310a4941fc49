"""Fixtures of the end-to-end tests."""

from collections.abc import AsyncIterator, Iterator

import pytest

from demo.world import World
from tests.e2e.street import Caller, Street


@pytest.fixture
def street() -> Iterator[Street]:
    with World("sq") as world:
        found = Street(world)
        yield found
        found.close()


@pytest.fixture
async def caller() -> AsyncIterator[Caller]:
    found = Caller()
    yield found
    await found.http.aclose()

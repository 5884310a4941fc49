"""A coordinator and an agent, as processes, and services for them to find."""

import asyncio
from collections.abc import AsyncIterator, Iterator
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


@pytest.fixture
async def quiet() -> AsyncIterator[None]:
    """The injector outlives an attach that is given up; its end is waited for here, inside the loop that watches it."""
    yield
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=20)

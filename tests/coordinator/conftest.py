"""Fixtures of the coordinator's tests."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.coordinator.program import Coordinator, Pods


@pytest.fixture
def pods() -> Iterator[Pods]:
    pods = Pods()
    yield pods
    pods.end()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    """One coordinator for many tests, each with pods and images of its own."""
    with Coordinator(tmp_path_factory.mktemp("shared")) as coordinator:
        yield coordinator
        assert coordinator.process.poll() is None, "it must live through everything"
        assert "Traceback" not in coordinator.log
        assert coordinator.end() == 0


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Coordinator]:
    """A coordinator for this test alone."""
    with Coordinator(tmp_path) as coordinator:
        yield coordinator


@pytest.fixture
def pod(pods: Pods) -> str:
    """A pod of one container; `image_of` has its image."""
    name = f"pod-{uuid4().hex}"
    pods.run(name, image_of(name))
    return name


def image_of(pod: str) -> str:
    return f"demo/{pod}:1"


@pytest.fixture
def image(pod: str) -> str:
    return image_of(pod)


@pytest.fixture
async def web(shared: Coordinator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=shared.url, trust_env=False, timeout=60) as client:
        yield client

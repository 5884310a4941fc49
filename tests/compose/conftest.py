"""A Docker engine of the tests' own, and the shop in it."""

import os
from collections.abc import Iterator

import pytest

from demo.compose.engine import BASE_IMAGE, command, load_base
from demo.compose.shop import Shop, opened
from demo.compose.story import ComposeStory
from tests.runtimes import engine
from tests.runtimes.engine import Engine, short_directory


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    with engine.running(short_directory()) as found:
        yield found


@pytest.fixture(scope="session")
def told(docker_engine: Engine) -> dict[str, str]:
    """What Compose has to be told to use that engine."""
    load_base(docker_engine.host)
    own = {"DOCKER_HOST": docker_engine.host, "SQUASH_DOCKER_SOCKET": docker_engine.host.removeprefix("unix://")}
    own |= {"SQUASH_BASE": BASE_IMAGE, "SQUASH_BUILD_NETWORK": "host", "DOCKER_BUILDKIT": "0"}
    return {**os.environ, **own}


@pytest.fixture(scope="session")
def shop(told: dict[str, str]) -> Iterator[Shop]:
    with opened(command(), told) as found:
        yield found


@pytest.fixture(scope="session")
def story(shop: Shop) -> ComposeStory:
    return ComposeStory(shop)

"""Fixtures of the ground floor's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.coordinator.program import Coordinator, Pods
from tests.squash.ctl import Ctl, Running
from tests.squash.processes import Processes

Start = Callable[..., Running]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Coordinator]:
    """A coordinator for this test alone."""
    with Coordinator(tmp_path) as coordinator:
        yield coordinator


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    """One coordinator for many tests, each with pods and images of its own."""
    with Coordinator(tmp_path_factory.mktemp("board")) as coordinator:
        yield coordinator


@pytest.fixture
def pod() -> Iterator[str]:
    """A running pod; its image is `demo/<its name>`."""
    pods = Pods()
    name = f"pod-{uuid4().hex[:8]}"
    pods.run(name, f"demo/{name}", container="app")
    yield name
    pods.end()


@pytest.fixture
def processes() -> Iterator[Processes]:
    processes = Processes()
    yield processes
    processes.end()


@pytest.fixture
def ctl(tmp_path: Path, board: Coordinator) -> Ctl:
    """squashctl for the shared coordinator."""
    return Ctl(tmp_path, board.url)


@pytest.fixture
def alone(tmp_path: Path) -> Ctl:
    """squashctl that nobody told of a coordinator."""
    return Ctl(tmp_path)


@pytest.fixture
def start(ctl: Ctl) -> Iterator[Start]:
    """Starts a squashctl that is gone when the test is over."""
    started: list[Running] = []

    def start(*argv: str, **options: int) -> Running:
        running = ctl.start(*argv, **options)
        started.append(running)
        return running

    yield start
    for running in started:
        running.kill()

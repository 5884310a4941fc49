"""One containerd and one Docker engine for all tests of a worker, and the images that they run."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.world import World
from squash import procfs
from tests.drivers.languages import LANGUAGES
from tests.runtimes import containerd, engine, images
from tests.runtimes.cells import Table
from tests.runtimes.containerd import Containerd
from tests.runtimes.engine import Engine, short_directory
from tests.runtimes.pods import ServiceContainers, ServicePods
from tests.runtimes.wares import Ware, Workshop

BASE = Path(__file__).parents[2] / "build" / "base"
"""A small Debian with Python, as `make runtimes` makes it."""
TWO = "squash.test/two:latest"
PYTHON = "squash.test/python:1"
_TWO = "#include <unistd.h>\nint main(void) { if (!fork()) for (;;) pause(); for (;;) pause(); }\n"
_SERVICE = """
import threading, time
def double(n):
    twice = n * 2
    return twice
def work():
    n = 0
    while True:
        n += 1
        double(n)
        time.sleep(0.005)
threading.Thread(target=work).start()
work()
"""


@pytest.fixture(scope="session")
def two_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program and its child, on nothing else."""
    place = tmp_path_factory.mktemp("two")
    (place / "two.c").write_text(_TWO)
    subprocess.run(["gcc", "-static", "-o", place / "two", place / "two.c"], check=True)
    return images.write(place / "image.tar", TWO, [images.layer(place / "l.tar", {"/two": place / "two"})], ["/two"])


@pytest.fixture(scope="session")
def python_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service of two busy threads on Debian's Python."""
    place = tmp_path_factory.mktemp("python")
    (place / "service.py").write_text(_SERVICE)
    files = images.layer(place / "files.tar", {"/app/service.py": place / "service.py"})
    base = images.layer_of_tree(place / "base.tar", BASE)
    return images.write(place / "image.tar", PYTHON, [base, files], ["python3", "/app/service.py"])


@pytest.fixture(scope="session")
def runtime(two_image: Path, python_image: Path) -> Iterator[Containerd]:
    with containerd.running(short_directory()) as found:
        found.load(two_image)
        found.load(python_image)
        yield found


@pytest.fixture(scope="session")
def docker_engine(two_image: Path) -> Iterator[Engine]:
    with engine.running(short_directory()) as found:
        found.client.images.load(two_image.read_bytes())
        yield found


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(BASE, tmp_path_factory.mktemp("wares"))


@pytest.fixture(scope="session")
def wares(request: pytest.FixtureRequest, workshop: Workshop) -> dict[str, Ware]:
    """By language: of those that the selected tests name."""
    named = {item.callspec.params.get("language") for item in request.session.items if hasattr(item, "callspec")}
    return {language: workshop.make(language) for language in LANGUAGES if language in named}


@pytest.fixture(scope="session")
def archive(workshop: Workshop, wares: dict[str, Ware]) -> Path:
    """Their images."""
    return workshop.archive()


@pytest.fixture(scope="session")
def service_pods(runtime: Containerd, wares: dict[str, Ware], archive: Path) -> ServicePods:
    runtime.load(archive)
    return ServicePods(runtime, wares)


@pytest.fixture(scope="session")
def service_containers(docker_engine: Engine, wares: dict[str, Ware], archive: Path) -> ServiceContainers:
    with archive.open("rb") as file:
        docker_engine.client.images.load(file)
    return ServiceContainers(docker_engine, wares)


@pytest.fixture(scope="session")
def apart() -> None:
    """Of the ports of a whole machine nobody knows why they come and go."""
    own = procfs.namespace(os.getpid(), "net") != procfs.namespace(1, "net")
    assert own, "run by `make runtimes`, or by scripts/apart: this takes a network namespace of its own"


@pytest.fixture(scope="session")
def table(apart: None, runtime: Containerd) -> Iterator[Table]:
    with World("sq") as world:
        made = Table(world, "cri", "--runtime-socket", str(runtime.socket))
        yield made
        made.close()


@pytest.fixture(scope="module")
def shaken(apart: None, runtime: Containerd) -> Iterator[Table]:
    """Another one, in which agents are killed and containers vanish."""
    with World("sq") as world:
        made = Table(world, "cri", "--runtime-socket", str(runtime.socket))
        yield made
        made.close()


@pytest.fixture(scope="session")
def docker_table(apart: None, docker_engine: Engine) -> Iterator[Table]:
    with World("sq") as world:
        made = Table(world, "docker", "--docker-host", docker_engine.host)
        yield made
        made.close()

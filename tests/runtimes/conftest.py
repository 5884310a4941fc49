"""One containerd and one Docker engine for all tests of a worker, and the images that they run."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtimes import containerd, engine, images
from tests.runtimes.containerd import Containerd
from tests.runtimes.engine import Engine

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


def short_directory() -> Path:
    """Sockets in it must have a path of at most 107 bytes, which pytest's own directories leave no room for."""
    return Path(tempfile.mkdtemp(prefix="squash-"))

"""A Docker engine of the tests' own, and its client."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors

from demo import engine


class Engine:
    """An engine that runs."""

    def __init__(self, base: Path, host: str) -> None:
        self.base = base
        self.host = host
        self.client = docker.DockerClient(base_url=self.host, timeout=60, version="1.41")


def short_directory() -> Path:
    """Sockets in it must have a path of at most 107 bytes, which pytest's own directories leave no room for."""
    return Path(tempfile.mkdtemp(prefix="squash-"))


@contextlib.contextmanager
def running(base: Path) -> Iterator[Engine]:
    """An engine below `base`, an empty directory with a short path; nothing of it is left afterwards."""
    with engine.running(base) as host:
        found = Engine(base, host)
        yield found
        for container in found.client.containers.list(all=True):
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True)
        found.client.networks.prune()
        found.client.close()

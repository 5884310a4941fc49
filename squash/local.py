"""The platform `local`: a plain process counts as a container when its environment names its pod and image.

SQUASH_POD and SQUASH_IMAGE are required; SQUASH_NAMESPACE is `default` and SQUASH_CONTAINER the image's last
name part when absent. Children inherit the environment, so a container may have several processes. A process with a
name that is too long or not printable text is passed over.
"""

import asyncio
import time
from collections.abc import Iterator
from typing import NamedTuple

from squash import procfs
from squash.model import LONGEST_TEXT


class LocalProcess(NamedTuple):
    pid: int
    start_time: int
    """Clock ticks since boot."""
    pod: str
    namespace: str
    container: str
    image: str

    @property
    def alive(self) -> bool:
        return procfs.alive(self.pid, self.start_time)


def read(pid: int) -> LocalProcess | None:
    """The process, if it counts as one of a container."""
    environ = procfs.environ(pid)
    if not environ:
        return None
    pod, image = environ.get("SQUASH_POD"), environ.get("SQUASH_IMAGE")
    stat = procfs.stat(pid) if pod and image else None
    if not (pod and image and stat) or stat.state in "ZX":
        return None
    namespace = environ.get("SQUASH_NAMESPACE") or "default"
    container = environ.get("SQUASH_CONTAINER") or image.rsplit("/", 1)[-1].split(":")[0].split("@")[0]
    if not all(map(_can_be_told, (pod, image, namespace, container))):
        return None
    return LocalProcess(pid, stat.start_time, pod, namespace, container, image)


def _can_be_told(text: str) -> bool:
    """Whether the API can carry it. Anybody may start such a process: it must not spoil what is told of others.

    What is not UTF-8 came as lone surrogates, which are not printable either.
    """
    return len(text) <= LONGEST_TEXT and text.isprintable()


def scan() -> Iterator[LocalProcess]:
    """Every process of every local container, oldest first. Costs about a millisecond per hundred processes."""
    found = (read(pid) for pid in procfs.pids())
    yield from sorted((process for process in found if process), key=lambda p: (p.start_time, p.pid))


class Scanner:
    """Scans off the event loop, once for everybody who asks meanwhile.

    A thread of its own for each would starve the loop, which competes with all of them for the interpreter.
    """

    def __init__(self) -> None:
        self._scanning = asyncio.Lock()
        self._found: list[LocalProcess] = []
        self._began = float("-inf")

    async def scan(self) -> list[LocalProcess]:
        """Every process of every local container, oldest first, seen by a scan that began after this call."""
        called = time.monotonic()
        async with self._scanning:
            if self._began <= called:
                began = time.monotonic()
                self._found = await asyncio.to_thread(lambda: list(scan()))
                self._began = began
            return self._found

"""The platform `local`: plain processes whose environment names their pod and image (see `squash.local`)."""

import time
from collections.abc import Mapping
from typing import Any

from coordinator.platforms import Container, text
from coordinator.platforms.choice import choose, shortened
from squash.errors import ApiError
from squash.local import LocalProcess, Scanner
from squash.model import Container as KnownContainer
from squash.reasons import Reason
from squash.settings import CoordinatorSettings

FRESH = 1.0
"""Seconds that a choice among a pod's containers holds: another one may have started since."""
_REMEMBERED = 4_096
_Wanted = tuple[str, str, str | None]


class LocalPlatform:
    """Remembers what it found. A remembered process costs one read of /proc, a new one a scan off the event loop."""

    def __init__(self, settings: CoordinatorSettings) -> None:
        self._node = settings.node
        self._mesh_proxies = frozenset(settings.mesh_proxies)
        self._found: dict[_Wanted, tuple[LocalProcess, float]] = {}
        self._scanner = Scanner()

    async def locate(self, attachment: Mapping[str, Any]) -> Container:
        wanted = _wanted(attachment)
        process = self._remembered(wanted) or self._search(wanted, await self._scanner.scan())
        completed = {**attachment, "pod": process.pod, "namespace": process.namespace, "container": process.container}
        return Container(process.image, self._node, completed)

    async def containers(self) -> list[KnownContainer]:
        found = {p[2:]: p for p in reversed(await self._scanner.scan())}
        return [self._known(process) for process in sorted(found.values(), key=lambda p: p[2:])]

    def _known(self, process: LocalProcess) -> KnownContainer:
        named = {"pod": process.pod, "namespace": process.namespace, "container": process.container}
        proxy = process.container in self._mesh_proxies
        return KnownContainer(image=process.image, node=self._node, attachment=named, mesh_proxy=proxy)

    def _remembered(self, wanted: _Wanted) -> LocalProcess | None:
        process, since = self._found.get(wanted, (None, 0.0))
        fresh = wanted[2] is not None or time.monotonic() - since < FRESH
        return process if process and fresh and process.alive else None

    def _search(self, wanted: _Wanted, processes: list[LocalProcess]) -> LocalProcess:
        pod, namespace, named = wanted
        containers: dict[str, LocalProcess] = {}
        for process in processes:
            if (process.pod, process.namespace) == (pod, namespace):
                containers.setdefault(process.container, process)
        if not containers:
            there = shortened(f"{process.namespace}/{process.pod} ({process.container})" for process in processes)
            message = f"no process here is of pod {pod!r} in namespace {namespace!r}; there are: {there}"
            raise ApiError(404, Reason.CONTAINER_NOT_FOUND, message)
        process = containers[choose(named, containers.keys(), self._mesh_proxies, f"pod {namespace}/{pod}")]
        if len(self._found) >= _REMEMBERED:
            self._found.clear()
        self._found[wanted] = process, time.monotonic()
        return process


def _wanted(attachment: Mapping[str, Any]) -> _Wanted:
    pod = text(attachment, "pod")
    if pod is None:
        message = "spec.attachment names no pod; the platform `local` needs it (SQUASH_POD of the process)"
        raise ApiError(404, Reason.CONTAINER_NOT_FOUND, message)
    return pod, text(attachment, "namespace") or "default", text(attachment, "container")

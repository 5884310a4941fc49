"""Services in containers: started for one test, in pods of a containerd or by a Docker engine, and removed after it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.runtimes import cells
from tests.runtimes.cells import Kind, Running
from tests.runtimes.containerd import Containerd
from tests.runtimes.engine import Engine
from tests.runtimes.kubelet import Limits, Pod
from tests.runtimes.wares import Ware

CONTAINER = "app"


class Service:
    """A service in a pod, which may be started again."""

    def __init__(self, pod: Pod, name: str, namespace: str, ware: Ware, kind: Kind) -> None:
        self.pod = pod
        self.attachment: dict[str, Any] = {"pod": name, "namespace": namespace, "container": CONTAINER}
        self._ware = ware
        self._kind = kind

    def start(
        self,
        command: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        limits: Limits | None = None,
        mounts: Mapping[str, Path] | None = None,
    ) -> Running:
        """Another container of the same name; returns when it answers. What is not given is as its kind has it."""
        ware, kind = self._ware, self._kind
        ident = self.pod.run(
            CONTAINER,
            cells.image(ware, kind),
            command or cells.command(ware, kind),
            environment=cells.environment(ware, kind) if environment is None else environment,
            limits=limits or kind.limits,
            mounts=mounts,
        )
        return cells.running(ware, kind, self.pod.ip, ident, self.attachment)


class ServicePods:
    """Of a containerd, made through CRI itself, in a namespace of the test's own."""

    def __init__(self, runtime: Containerd, wares: Mapping[str, Ware]) -> None:
        self.runtime = runtime
        self._wares = wares
        self._namespace = f"ns-{uuid4().hex[:8]}"

    @contextlib.contextmanager
    def service(self, language: str, kind: Kind) -> Iterator[Service]:
        name = f"{language}-{uuid4().hex[:6]}"
        pod = self.runtime.kubelet.pod(name, self._namespace)
        try:
            yield Service(pod, name, self._namespace, self._wares[language], kind)
        finally:
            pod.remove()

    @contextlib.contextmanager
    def running(self, language: str, kind: Kind) -> Iterator[Running]:
        with self.service(language, kind) as service:
            yield service.start()


class ServiceContainers:
    """Containers of a Docker engine."""

    def __init__(self, engine: Engine, wares: Mapping[str, Ware]) -> None:
        self._engine = engine
        self._wares = wares

    @contextlib.contextmanager
    def running(self, language: str, kind: Kind) -> Iterator[Running]:
        ware = self._wares[language]
        made = self._engine.client.containers.run(
            cells.image(ware, kind), detach=True, environment=cells.environment(ware, kind)
        )
        try:
            made.reload()
            ip = made.attrs["NetworkSettings"]["IPAddress"]
            yield cells.running(ware, kind, ip, str(made.id), {"container": str(made.name)})
        finally:
            made.remove(force=True)

"""The platform `docker`: the containers of one engine, alone, of Compose, or of Swarm."""

import asyncio
from collections.abc import Mapping
from typing import Any

from coordinator.platforms import Container, refused, text
from coordinator.platforms.choice import shortened
from squash.errors import ApiError, SquashError
from squash.model import Container as KnownContainer
from squash.reasons import Reason
from squash.runtimes.docker import LABELS, DockerContainer, Engine
from squash.settings import CoordinatorSettings

_KEYS = ("id", "container", *LABELS)
_SERVICE = ("project", "service", "stack", "swarm_service")


class DockerPlatform:
    """`spec.attachment` names a container by `container` or `pod` (name or id), or by what Compose or Swarm call it.

    A service with several containers is one whose youngest is meant, unless `number` or `task` says which.
    """

    def __init__(self, settings: CoordinatorSettings) -> None:
        """Raises SettingError when no engine answers."""
        self._engine = Engine(settings.docker_host)
        self._node = settings.node
        self._left_out = frozenset(settings.mesh_proxies)

    async def close(self) -> None:
        self._engine.close()

    async def locate(self, attachment: Mapping[str, Any]) -> Container:
        wanted = _wanted(attachment)
        try:
            return await asyncio.to_thread(self._locate, wanted, attachment)
        except SquashError as error:
            raise refused(error) from error

    async def containers(self) -> list[KnownContainer]:
        try:
            return [self._known(container) for container in await asyncio.to_thread(self._engine.running, {})]
        except SquashError as error:
            raise refused(error) from error

    def _known(self, container: DockerContainer) -> KnownContainer:
        told = {key: value for key in LABELS if (value := container.told(key))}
        named = told | {"container": container.name, "id": container.id}
        proxy = container.told("service") in self._left_out
        return KnownContainer(image=container.image, node=self._node, attachment=named, mesh_proxy=proxy)

    def _locate(self, wanted: dict[str, str], attachment: Mapping[str, Any]) -> Container:
        found = self._engine.running(wanted)
        if not found:
            there = shortened(_shown(container) for container in self._engine.running({}))
            message = f"no running container fits {_written(wanted)}; there are: {there}"
            raise ApiError(404, Reason.CONTAINER_NOT_FOUND, message)
        own = [container for container in found if container.told("service") not in self._left_out] or found
        services = {tuple(container.told(key) for key in _SERVICE) for container in own}
        if len(own) > 1 and (len(services) > 1 or not any(services.pop())):
            names = shortened(map(_shown, own))
            raise ApiError(404, Reason.CONTAINER_AMBIGUOUS, f"several containers fit {_written(wanted)}: {names}")
        return self._completed(own[0], attachment)

    def _completed(self, container: DockerContainer, attachment: Mapping[str, Any]) -> Container:
        told = {key: value for key in LABELS if (value := container.told(key))}
        exact = {**attachment, **told, "container": container.name, "id": container.id}
        return Container(container.image, self._node, exact, self._engine.image_names(container))


def _wanted(attachment: Mapping[str, Any]) -> dict[str, str]:
    wanted = {key: value for key in _KEYS if (value := text(attachment, key))}
    named = wanted.pop("id", None) or wanted.pop("container", None) or text(attachment, "pod")
    if named:
        wanted["container"] = named
    if not wanted:
        message = f"spec.attachment names no container; the platform `docker` needs one of pod, {', '.join(_KEYS)}"
        raise ApiError(404, Reason.CONTAINER_NOT_FOUND, message)
    return wanted


def _shown(container: DockerContainer) -> str:
    project, service = container.told("project"), container.told("service")
    return f"{container.name} ({project}/{service})" if service else container.name


def _written(wanted: Mapping[str, str]) -> str:
    return " ".join(f"{key}={value!r}" for key, value in wanted.items())

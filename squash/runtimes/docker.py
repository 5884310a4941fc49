"""Asking a Docker engine, by its own Python client; Compose and Swarm by the labels that they set."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import docker
import docker.errors
import requests

from squash.errors import SettingError, SquashError
from squash.reasons import Reason

LABELS = {
    "project": "com.docker.compose.project",
    "service": "com.docker.compose.service",
    "number": "com.docker.compose.container-number",
    "stack": "com.docker.stack.namespace",
    "swarm_service": "com.docker.swarm.service.name",
    "task": "com.docker.swarm.task.name",
}
"""What an attachment may name a container by, besides its name or id."""
TIMEOUT = 5
"""Seconds for one answer."""
_WAY: dict[str, Any] = {"version": "auto", "timeout": TIMEOUT}
_REMEMBERED = 1_024
_ID = re.compile(r"[0-9a-f]{12,64}")


class DockerContainer(NamedTuple):
    """A container that runs."""

    id: str
    name: str
    image: str
    """As it was named when the container was made."""
    image_id: str
    labels: Mapping[str, str]

    def told(self, key: str) -> str:
        """The value of one of LABELS; empty when the container does not bear it."""
        return self.labels.get(LABELS[key], "")


class Engine:
    """One engine. Its methods block, so they are to be called in a thread."""

    def __init__(self, host: str | None) -> None:
        """`host` like unix:///var/run/docker.sock; None: as DOCKER_HOST and its like say, else the usual socket.

        Raises SettingError when no engine answers there.
        """
        if host and host.startswith("unix://") and not Path(host.removeprefix("unix://")).is_socket():
            raise SettingError(f"docker_host = {host!r} cannot be used: there is no such socket")
        try:
            self._client = docker.DockerClient(base_url=host, **_WAY) if host else docker.from_env(**_WAY)
        except (docker.errors.DockerException, requests.RequestException) as error:
            where = host or "the engine's usual socket, as DOCKER_HOST is not set"
            raise SettingError(f"docker_host cannot be used ({where}): {_words(error)}") from error
        self._api = self._client.api
        self._images: dict[str, frozenset[str]] = {}

    def running(self, wanted: Mapping[str, str]) -> list[DockerContainer]:
        """The containers that run and fit, the youngest first.

        `container` of `wanted` is a name or the beginning of an id, the others are keys of LABELS. Raises SquashError.
        """
        labels = [f"{label}={wanted[key]}" for key, label in LABELS.items() if wanted.get(key)]
        rows = self._ask(self._api.containers, filters={"status": ["running"], "label": labels})
        found = [_told(row) for row in rows]
        named = wanted.get("container")
        if not named:
            return found
        exact = [one for one in found if named in (one.name, one.id)]
        return exact or [one for one in found if _ID.fullmatch(named) and one.id.startswith(named)]

    def image_names(self, container: DockerContainer) -> frozenset[str]:
        """Every name of the container's image: tags (`latest` also left out), digests, its id. Raises SquashError."""
        if container.image_id not in self._images:
            if len(self._images) >= _REMEMBERED:
                self._images.clear()
            found = self._ask(self._api.inspect_image, container.image_id)
            tags = set(found.get("RepoTags") or ())
            short = {tag.removesuffix(":latest") for tag in tags}
            digests = set(found.get("RepoDigests") or ())
            self._images[container.image_id] = frozenset(tags | short | digests | {container.image_id})
        return self._images[container.image_id] | {container.image}

    def pid(self, container: DockerContainer) -> int:
        """Pid of its first process as the engine's machine counts; 0 when it has just ended. Raises SquashError."""
        try:
            state = self._ask(self._api.inspect_container, container.id)["State"]
        except _GoneError:
            return 0
        return int(state.get("Pid") or 0)

    def node(self) -> str:
        """The engine's machine by its name. Raises SquashError."""
        name: str = self._ask(self._api.info)["Name"]
        return name

    def close(self) -> None:
        self._client.close()

    def _ask(self, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except docker.errors.NotFound as error:
            raise _GoneError(
                Reason.CONTAINER_NOT_FOUND, f"the engine at {self._api.base_url}: {_words(error)}"
            ) from error
        except (docker.errors.DockerException, requests.RequestException) as error:
            message = f"the engine at {self._api.base_url}: {_words(error)}"
            raise SquashError(Reason.RUNTIME_UNREACHABLE, message) from error


class _GoneError(SquashError):
    """What was asked about is not there any more."""


def _told(row: Mapping[str, Any]) -> DockerContainer:
    # A container that others link to has their names for it as well, which have more slashes.
    own = min(row["Names"], key=lambda name: name.count("/"), default="")
    return DockerContainer(row["Id"], own.removeprefix("/"), row["Image"], row["ImageID"], row.get("Labels") or {})


def _words(error: Exception) -> str:
    """What went wrong, without the wrappings of several libraries."""
    explanation = getattr(error, "explanation", None)
    return " ".join(str(explanation or error).split())[:300]

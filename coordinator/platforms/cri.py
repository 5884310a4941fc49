"""The platform `cri`: the pods of the one node that the coordinator runs on, as its container runtime tells them.

For a machine with containerd, CRI-O or k3s and no cluster around it.
"""

from collections.abc import Mapping
from typing import Any

from coordinator.platforms import Container, refused, text
from coordinator.platforms.choice import choose, shortened
from squash.errors import ApiError, SquashError
from squash.images import Reference
from squash.logs import Log
from squash.model import Container as KnownContainer
from squash.reasons import Reason
from squash.runtimes.cri import NAMESPACE, POD, Cri, CriContainer
from squash.runtimes.sockets import find_socket
from squash.settings import CoordinatorSettings

_log = Log("cri")


def _readable(image: str, names: frozenset[str]) -> str:
    """The name that people know: kubelets have containers run an image by its id."""
    if Reference.parse(image):
        return image
    references = [reference for name in sorted(names) if (reference := Reference.parse(name))]
    tagged = next((reference for reference in references if reference.tag), None)
    best = tagged or next(iter(references), None)
    return best.key if best else image


class CriPlatform:
    def __init__(self, settings: CoordinatorSettings) -> None:
        """Raises SettingError when there is no runtime."""
        self._cri = Cri(find_socket(settings.runtime_socket))
        self._node = settings.node
        self._mesh_proxies = frozenset(settings.mesh_proxies)

    async def close(self) -> None:
        await self._cri.close()

    async def locate(self, attachment: Mapping[str, Any]) -> Container:
        pod, namespace = text(attachment, "pod"), text(attachment, "namespace") or "default"
        if pod is None:
            raise ApiError(404, Reason.CONTAINER_NOT_FOUND, "spec.attachment names no pod, which the platform needs")
        try:
            found = await self._cri.running({POD: pod, NAMESPACE: namespace})
            if not found:
                message = f"no container runs in pod {namespace}/{pod}; there are: {await self._there()}"
                raise ApiError(404, Reason.CONTAINER_NOT_FOUND, message)
        except SquashError as error:
            raise refused(error) from error
        # Youngest first: one that was restarted hides the one before.
        containers: dict[str, CriContainer] = {}
        for container in found:
            containers.setdefault(container.name, container)
        named = text(attachment, "container")
        chosen = containers[choose(named, containers.keys(), self._mesh_proxies, f"pod {namespace}/{pod}")]
        exact = {**attachment, "pod": pod, "namespace": namespace, "container": chosen.name, "id": chosen.id}
        names = await self._names(chosen)
        return Container(_readable(chosen.image, names), self._node, exact, names)

    async def containers(self) -> list[KnownContainer]:
        try:
            found = await self._cri.running({})
        except SquashError as error:
            raise refused(error) from error
        return [await self._known(container) for container in found]

    async def _names(self, container: CriContainer) -> frozenset[str]:
        try:
            return await self._cri.image_names(container)
        except SquashError as error:
            # Of a runtime that keeps its images to itself the container's own words must do.
            _log.info("the runtime tells nothing of an image", image=container.image, error=error.message)
            return frozenset({container.image, container.image_ref} - {""})

    async def _known(self, container: CriContainer) -> KnownContainer:
        image = _readable(container.image, await self._names(container))
        named = {"pod": container.pod, "namespace": container.namespace, "container": container.name}
        proxy = container.name in self._mesh_proxies
        return KnownContainer(image=image, node=self._node, attachment=named, mesh_proxy=proxy)

    async def _there(self) -> str:
        return shortened(f"{one.namespace}/{one.pod} ({one.name})" for one in await self._cri.running({}))

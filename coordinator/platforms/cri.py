"""The platform `cri`: the pods of the one node that the coordinator runs on, as its container runtime tells them.

For a machine with containerd, CRI-O or k3s and no cluster around it.
"""

from collections.abc import Mapping
from typing import Any

from coordinator.platforms import Container, refused, text
from coordinator.platforms.choice import choose, shortened
from squash.errors import ApiError, SquashError
from squash.model import Container as KnownContainer
from squash.reasons import Reason
from squash.runtimes.cri import NAMESPACE, POD, Cri, CriContainer
from squash.runtimes.sockets import find_socket
from squash.settings import CoordinatorSettings


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
        exact = {**attachment, "pod": pod, "namespace": namespace, "container": chosen.name}
        return Container(chosen.image, self._node, exact, frozenset({chosen.image, chosen.image_ref}))

    async def containers(self) -> list[KnownContainer]:
        try:
            found = await self._cri.running({})
        except SquashError as error:
            raise refused(error) from error
        return [self._known(container) for container in found]

    def _known(self, container: CriContainer) -> KnownContainer:
        named = {"pod": container.pod, "namespace": container.namespace, "container": container.name}
        proxy = container.name in self._mesh_proxies
        return KnownContainer(image=container.image, node=self._node, attachment=named, mesh_proxy=proxy)

    async def _there(self) -> str:
        return shortened(f"{one.namespace}/{one.pod} ({one.name})" for one in await self._cri.running({}))

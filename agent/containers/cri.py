"""Containers of a CRI runtime: containerd, CRI-O, k3s. Nothing is needed inside the image."""

import asyncio
from collections.abc import Mapping
from typing import Any

from agent.containers import members
from agent.process import Process
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason
from squash.runtimes.cri import CONTAINER, NAMESPACE, POD, Cri, CriContainer
from squash.runtimes.sockets import find_socket
from squash.settings import AgentSettings

_LABELS = {"pod": POD, "namespace": NAMESPACE, "container": CONTAINER}
_OWN_NAMESPACE = ("readlink", "/proc/self/ns/mnt")
_log = Log("cri")


class CriContainers:
    """One list and one status call for each container; the connection stays open."""

    def __init__(self, settings: AgentSettings) -> None:
        """Raises SettingError when there is no runtime."""
        self._cri = Cri(find_socket(settings.runtime_socket))

    async def close(self) -> None:
        await self._cri.close()

    async def processes(self, attachment: Mapping[str, Any]) -> list[Process]:
        labels = {label: str(attachment[key]) for key, label in _LABELS.items() if attachment.get(key)}
        found = await self._cri.running(labels)
        if not found:
            return []
        # After a restart the runtime may still list the one before.
        return await self._members(found[0])

    async def _members(self, container: CriContainer) -> list[Process]:
        """A ladder: the status tells the pid; else the cgroups do; else the mount namespace, asked for inside."""
        if pid := await self._cri.pid(container):
            return await asyncio.to_thread(members.of_init, pid)
        if found := await asyncio.to_thread(members.of_container, container.id):
            _log.info("the runtime tells no pid, found by cgroup", container=container.id)
            return found
        told = await self._cri.output(container, _OWN_NAMESPACE)
        if told and (found := await asyncio.to_thread(members.of_mount_namespace, told.decode().strip())):
            _log.info("the runtime tells no pid, found by mount namespace", container=container.id)
            return found
        message = (
            f"container {container.name} of pod {container.namespace}/{container.pod} runs, but its processes "
            "are not to be seen: the runtime tells no pid, no cgroup here bears its id, and `readlink` could not be "
            "run inside"
        )
        raise SquashError(Reason.PROCESS_NOT_FOUND, message)

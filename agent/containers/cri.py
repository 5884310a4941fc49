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
        ident = attachment.get("id")
        if isinstance(ident, str) and (found := await self._of_id(ident)):
            return found
        labels = {label: str(attachment[key]) for key, label in _LABELS.items() if attachment.get(key)}
        listed = await self._cri.running(labels)
        if not listed:
            return []
        if ident and listed[0].id != ident:
            _log.info("the container was restarted", was=ident, container=listed[0].id)
        # After a restart the runtime may still list the one before.
        return await self._members(listed[0])

    async def _of_id(self, ident: str) -> list[Process]:
        """By one call; empty when the container does not run any more, or does not tell its pid."""
        pid = await self._cri.pid(ident) if ident else None
        return await asyncio.to_thread(members.of_init, pid, ident) if pid else []

    async def _members(self, container: CriContainer) -> list[Process]:
        """A ladder: the status tells the pid; else the cgroups do; else the mount namespace, asked for inside."""
        pid = await self._cri.pid(container.id)
        if pid is None:
            return []
        if pid:
            return await asyncio.to_thread(members.of_init, pid, container.id)
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

"""Containers of a Docker engine."""

import asyncio
from collections.abc import Mapping
from typing import Any

from agent.containers import members
from agent.process import Process
from squash.runtimes.docker import Engine
from squash.settings import AgentSettings


class DockerContainers:
    """Asks the engine for the pid of the container's first process; the rest is told by /proc."""

    def __init__(self, settings: AgentSettings) -> None:
        """Raises SettingError when there is no engine."""
        self._engine = Engine(settings.docker_host)

    async def close(self) -> None:
        self._engine.close()

    async def processes(self, attachment: Mapping[str, Any]) -> list[Process]:
        wanted = {key: value for key in ("id", "container") if isinstance(value := attachment.get(key), str)}
        return await asyncio.to_thread(self._processes, wanted.get("id") or wanted.get("container", ""))

    def _processes(self, named: str) -> list[Process]:
        for container in self._engine.running({"container": named}) if named else ():
            if pid := self._engine.pid(container):
                return members.of_init(pid, container.id)
        return []

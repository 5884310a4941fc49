"""Plain processes as containers, told by their environment: the embedded default."""

import asyncio
from collections.abc import Mapping
from typing import Any

from agent.process import Process
from squash import local
from squash.settings import AgentSettings


class LocalContainers:
    """Reads /proc; a millisecond per hundred processes, off the event loop."""

    def __init__(self, settings: AgentSettings) -> None:
        """There is nothing to set."""

    async def processes(self, attachment: Mapping[str, Any]) -> list[Process]:
        wanted = tuple(attachment.get(key) for key in ("pod", "namespace", "container"))
        return await asyncio.to_thread(_matching, wanted)


def _matching(wanted: tuple[Any, ...]) -> list[Process]:
    found = (Process.read(p.pid) for p in local.scan() if (p.pod, p.namespace, p.container) == wanted)
    return [process for process in found if process]

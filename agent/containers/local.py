"""Plain processes as containers, told by their environment: the embedded default."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from agent.process import Process
from squash.local import LocalProcess, Scanner
from squash.settings import AgentSettings


class LocalContainers:
    """Reads /proc; a millisecond per hundred processes, off the event loop, and shared by all who ask at once."""

    def __init__(self, settings: AgentSettings) -> None:
        """There is nothing to set."""
        self._scanner = Scanner()

    async def processes(self, attachment: Mapping[str, Any]) -> list[Process]:
        wanted = tuple(attachment.get(key) for key in ("pod", "namespace", "container"))
        found = [
            process
            for process in await self._scanner.scan()
            if (process.pod, process.namespace, process.container) == wanted
        ]
        return await asyncio.to_thread(_read, found)


def _read(found: Sequence[LocalProcess]) -> list[Process]:
    known = (Process.read(each.pid) for each in found)
    return [process for process in known if process]

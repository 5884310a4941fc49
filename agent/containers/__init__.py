"""Which processes make up a container? One small plug-in a container runtime, entry points `squash.containers`."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol

from agent.process import Process
from squash.errors import SettingError


class Containers(Protocol):
    async def processes(self, attachment: Mapping[str, Any]) -> list[Process]:
        """The container's processes, oldest first; `attachment` is the completed `spec.attachment`."""


def load(name: str) -> Containers:
    """The plug-in of this name. Raises SettingError that lists those installed."""
    known = {entry.name: entry for entry in entry_points(group="squash.containers")}
    if name not in known:
        raise SettingError(f"containers = {name!r} cannot be used: installed are {', '.join(sorted(known))}")
    plugin: Containers = known[name].load()()
    return plugin

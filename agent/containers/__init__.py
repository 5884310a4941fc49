"""Which processes make up a container? One small plug-in a container runtime, entry points `squash.containers`."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, Protocol

from agent.process import Process
from squash.errors import SettingError
from squash.settings import AgentSettings


class Containers(Protocol):
    """Made with the agent's settings; raises SettingError then when it cannot work."""

    async def processes(self, attachment: Mapping[str, Any]) -> list[Process]:
        """The container's processes, oldest first; `attachment` is the completed `spec.attachment`.

        Raises SquashError when the runtime cannot tell.
        """


def load(settings: AgentSettings) -> Containers:
    """The plug-in that the settings name. Raises SettingError that lists those installed, or says what it lacks."""
    name = settings.containers
    known = {entry.name: entry for entry in entry_points(group="squash.containers")}
    if name not in known:
        raise SettingError(f"containers = {name!r} cannot be used: installed are {', '.join(sorted(known))}")
    try:
        factory = known[name].load()
    except ImportError as error:
        raise SettingError(f"containers = {name!r} needs a library: pip install 'squash[{name}]' ({error})") from error
    plugin: Containers = factory(settings)
    return plugin

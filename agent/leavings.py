"""What a debugger leaves on disk and in a container: taken away now, later, or by the next life of the agent."""

import asyncio

from agent.debuggers import Debugger, Target
from agent.places import Place, Places
from squash.errors import SquashError
from squash.logs import Log
from squash.tasks import spawn


def clear(place: Place, target: Target, places: Places) -> None:
    """After an orderly end: the place goes when nothing is unfinished any more. What is left open keeps its notes."""

    async def later() -> None:
        await asyncio.wait(target.unfinished)
        if all(not task.cancelled() and not task.exception() and task.result() for task in target.unfinished):
            places.remove(place)

    if target.unfinished:
        spawn(later(), f"remains of {place.directory.name}")
    else:
        places.remove(place)


async def undo(place: Place, debugger: Debugger, places: Places, log: Log) -> bool:
    """After any other end, by the debugger's notes; whether that went well. If not, the next life tries again."""
    undoing = spawn(_undo(place, debugger, log), f"recover {place.directory.name}")
    await asyncio.wait({undoing})
    # A plug-in may raise anything: the task told of it.
    if undoing.cancelled() or undoing.exception() or not undoing.result():
        return False
    places.remove(place)
    return True


async def _undo(place: Place, debugger: Debugger, log: Log) -> bool:
    try:
        await debugger.recover(place.directory)
    except (OSError, SquashError) as error:
        log.warning("cannot clean up, the next life tries again", debugger=debugger.name, error=str(error))
        return False
    return True

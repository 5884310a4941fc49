"""Who sits in which process: one debugger at a time, and the next one waits until the last has left."""

import asyncio

from agent.process import Process
from squash.errors import SquashError
from squash.reasons import Reason


class Targets:
    def __init__(self) -> None:
        self._occupants: dict[tuple[int, int], _Occupant] = {}

    async def occupy(self, process: Process, attachment: str) -> None:
        """Takes the process for this attachment. Raises SquashError when another one is in it and stays."""
        key = process.pid, process.start_time
        while occupant := self._occupants.get(key):
            if not occupant.leaving:
                raise SquashError(
                    Reason.PROCESS_BUSY, f"process {process.pid} is being debugged by attachment {occupant.attachment}"
                )
            await occupant.left.wait()
        self._occupants[key] = _Occupant(attachment)

    def leaving(self, process: Process, attachment: str) -> None:
        """Says that the occupant is on its way out: whoever comes now waits instead of being refused."""
        if occupant := self._occupant(process, attachment):
            occupant.leaving = True

    def leave(self, process: Process, attachment: str) -> None:
        if occupant := self._occupant(process, attachment):
            del self._occupants[process.pid, process.start_time]
            occupant.left.set()

    def _occupant(self, process: Process, attachment: str) -> "_Occupant | None":
        found = self._occupants.get((process.pid, process.start_time))
        return found if found and found.attachment == attachment else None


class _Occupant:
    def __init__(self, attachment: str) -> None:
        self.attachment = attachment
        self.leaving = False
        self.left = asyncio.Event()

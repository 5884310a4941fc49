"""Tells the coordinator how an attachment goes: in order, each step once, across its restarts."""

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from squash.client import AsyncClient, get_attachment, patch_attachment
from squash.errors import ApiError, UnreachableError
from squash.logs import Log
from squash.model import StatusPatch

PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between tries to reach a lost coordinator; the last one repeats."""


_MALFORMED = (400, 413, 422)


class Answer(Enum):
    """What becomes of a step."""

    TAKEN = auto()
    REFUSED = auto()
    """The attachment is gone, over, or another agent's."""
    MALFORMED = auto()
    """A plug-in's words, say, are none that the coordinator takes: the attachment goes on without this step."""


class Reporter:
    """A queue of status patches for one attachment. `gone` is called when the coordinator no longer wants it."""

    def __init__(self, client: AsyncClient, name: str, log: Log, gone: Callable[[], None]) -> None:
        self._client = client
        self._name = name
        self._log = log
        self._gone = gone
        self._queue: asyncio.Queue[StatusPatch] = asyncio.Queue()

    def report(self, status: StatusPatch) -> None:
        """Queues a step; `run` sends it. Raises TypeError and ValueError for what cannot be sent."""
        patch_attachment(self._name, status)
        self._queue.put_nowait(status)

    async def flush(self) -> None:
        """Returns when everything reported so far has been sent or refused."""
        await self._queue.join()

    async def run(self) -> None:
        """Sends steps until cancelled."""
        while True:
            status = await self._queue.get()
            try:
                if await self._deliver(status) is Answer.REFUSED:
                    self._gone()
            finally:
                self._queue.task_done()

    async def deliver(self, status: StatusPatch) -> bool:
        """Sends one step now, across the coordinator's absences; False when it does not take the step."""
        return await self._deliver(status) is Answer.TAKEN

    async def _deliver(self, status: StatusPatch) -> Answer:
        tries = 0
        while True:
            try:
                return await self._try(status, again=tries > 0)
            except (UnreachableError, ApiError) as error:
                pause = PAUSES[min(tries, len(PAUSES) - 1)]
                tries += 1
                self._log.warning(
                    "coordinator cannot take it, trying again", error=error.message, reason=error.reason, pause=pause
                )
                await asyncio.sleep(pause)

    async def _try(self, status: StatusPatch, *, again: bool) -> Answer:
        """Raises UnreachableError, and ApiError of a 5xx or 401, when the coordinator cannot answer just now."""
        try:
            await self._client.send(patch_attachment(self._name, status))
        except ApiError as error:
            if error.code >= 500 or error.code == 401:
                raise  # a token that expired can be exchanged; no process is left because of it
            if again and error.code == 409 and await self._stands(status):
                return Answer.TAKEN
            if error.code in _MALFORMED:
                self._log.error("step is malformed", reason=error.reason, message=error.message)
                return Answer.MALFORMED
            self._log.info("step refused", reason=error.reason, message=error.message)
            return Answer.REFUSED
        return Answer.TAKEN

    async def _stands(self, status: StatusPatch) -> bool:
        """A step that arrived although its answer was lost is refused when sent again: that is no refusal."""
        try:
            now = (await self._client.send(get_attachment(self._name))).status
        except ApiError as error:
            if error.code >= 500 or error.code == 401:
                raise
            return False
        return all(getattr(now, key) == value for key, value in status.fields())

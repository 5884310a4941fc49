"""One long poll that watches the attachments of all holds."""

import asyncio
import time
from collections.abc import Callable

from squash.calls import changes
from squash.errors import ApiError, SquashError
from squash.logs import Log
from squash.model import DebugAttachment, State
from squash.tasks import spawn

from .backoff import Backoff
from .http1 import Http1Client

WAIT = 10.0
"""Seconds of one long poll. A coordinator that vanished without closing the connection is noticed within it."""
AT_ONCE = 25
"""Attachments of one answer that are looked at without a pause."""
_FINAL = (State.ATTACHED, State.ERROR)
_log = Log("watch")


class Watch:
    """Calls `changed` with attachments of this `holder` that a request need no longer wait for, `vanished` with deleted
    names. Survives any failure of the coordinator; `poll_period` is the longest pause between two tries, in seconds.
    """

    def __init__(
        self,
        client: Http1Client,
        holder: str,
        poll_period: float,
        changed: Callable[[DebugAttachment], None],
        vanished: Callable[[str], None],
    ) -> None:
        self._client = client
        self._holder = holder
        self._changed = changed
        self._vanished = vanished
        self._backoff = Backoff(poll_period)
        self._names: set[str] = set()
        self._revision = ""
        self._task: asyncio.Task[None] | None = None

    def add(self, name: str) -> None:
        """Watches an attachment that the coordinator has."""
        self._names.add(name)
        if self._task is None or self._task.done():
            self._task = spawn(self._run(), "watch")

    def discard(self, name: str) -> None:
        # A poll under way is left to end by itself: the next hold finds it in place.
        self._names.discard(name)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        lost = False
        while self._names:
            try:
                news = await (self._poll() if self._revision else self._list())
            except SquashError as error:
                if not lost:
                    _log.warning("watch failed, trying again", problem=error.message, holds=len(self._names))
                lost, news = True, False
            else:
                if lost:
                    _log.info("watch works again", holds=len(self._names))
                lost = False
            if news:
                self._backoff.reset()
            else:
                # Also an answer without news counts as a failed try, unless it took its time, so that no server can
                # make this spin.
                await asyncio.sleep(self._backoff.pause())

    async def _list(self) -> bool:
        """Looks at everything once; what was there before and is not in the answer is gone."""
        before = frozenset(self._names)
        answer = await self._client.send(changes(holder=self._holder))
        self._revision = answer.revision
        there = set()
        for attachment in answer.attachments:
            there.add(attachment.name)
            self._changed(attachment)
        for name in before - there:
            self._vanished(name)
        return True

    async def _poll(self) -> bool:
        began = time.monotonic()
        try:
            answer = await self._client.send(
                changes(since=self._revision, holder=self._holder, states=_FINAL, wait=WAIT)
            )
        except ApiError as error:
            if error.code == 408:
                return time.monotonic() - began >= WAIT / 2
            raise
        before = self._revision
        # After a reset the list leaves out what is not final yet: look at everything.
        self._revision = "" if answer.reset else answer.revision
        for number, attachment in enumerate(answer.attachments, 1):
            self._changed(attachment)
            if number % AT_ONCE == 0:
                # Those let go so far are answered first.
                await asyncio.sleep(0)
        for name in answer.deleted:
            self._vanished(name)
        return not answer.reset and answer.revision != before

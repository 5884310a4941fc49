"""Telling the coordinator how holds ended: after the request has gone on, as soon as it can be reached."""

import asyncio
import contextlib
import time
from collections import deque
from typing import NamedTuple

from squash.calls import patch_attachment
from squash.errors import ApiError, UnreachableError
from squash.logs import Log
from squash.model import State, StatusPatch
from squash.tasks import spawn

from .backoff import Backoff
from .hold import Cancel, Report
from .http1 import Http1Client

KEPT = 30.0
"""Seconds that a report is tried for: a coordinator that takes longer to come back has let the attachment expire."""
MOST = 10_000
"""Reports kept at once; beyond it the oldest are given up."""
AT_ONCE = 16
_log = Log("reports")


class _Entry(NamedTuple):
    report: Cancel | Report
    until: float


class Reports:
    """`timeout` is for one try, `poll_period` the longest pause between two, in seconds.

    `pause`, in seconds too, is before the first of many reports; a cancellation does not wait for it, because what it
    cancels may be a debugger on its way.
    """

    def __init__(self, client: Http1Client, *, timeout: float, poll_period: float, pause: float) -> None:
        self._client = client
        self._pause = pause
        self._hurry = asyncio.Event()
        self._timeout = timeout
        self._backoff = Backoff(poll_period)
        self._queue: deque[_Entry] = deque(maxlen=MOST)
        self._task: asyncio.Task[None] | None = None

    def add(self, report: Cancel | Report) -> None:
        self._queue.append(_Entry(report, time.monotonic() + KEPT))
        if isinstance(report, Cancel):
            self._hurry.set()
        if self._task is None or self._task.done():
            self._task = spawn(self._run(), "reports")

    async def flush(self, timeout: float) -> None:
        """Waits up to `timeout` seconds for what is still to be told; then gives the rest up."""
        self._hurry.set()
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=timeout)
            self._task.cancel()

    async def _run(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), self._pause)
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(AT_ONCE, len(self._queue)))]
            told = await asyncio.gather(*(self._tell(entry.report) for entry in batch))
            now = time.monotonic()
            left = [entry for entry, done in zip(batch, told, strict=True) if not done and entry.until > now]
            # Those that came meanwhile are newer: what finds no room any more is the oldest.
            room = MOST - len(self._queue)
            self._queue.extendleft(reversed(left[max(0, len(left) - room) :]))
            if all(told):
                self._backoff.reset()
            else:
                await asyncio.sleep(self._backoff.pause())
        self._hurry.clear()

    async def _tell(self, report: Cancel | Report) -> bool:
        """False when it is worth another try."""
        log = _log.bind(attachment=report.name, outcome=report.outcome)
        try:
            try:
                await self._client.send(patch_attachment(report.name, _patch(report)), self._timeout)
            except ApiError as error:
                if error.code != 409 or isinstance(report, Report):
                    raise
                # It is in error already: what is left to tell is the outcome.
                await self._client.send(
                    patch_attachment(report.name, StatusPatch(outcome=report.outcome)), self._timeout
                )
        except UnreachableError as error:
            log.debug("report not delivered yet", problem=error.message)
            return False
        except ApiError as error:
            if error.code >= 500:
                log.debug("report not delivered yet", problem=error.message)
                return False
            log.debug("report refused", problem=error.message)
        return True


def _patch(report: Cancel | Report) -> StatusPatch:
    if isinstance(report, Report):
        return StatusPatch(outcome=report.outcome)
    return StatusPatch(state=State.ERROR, reason=report.reason, message=report.reason.meaning, outcome=report.outcome)

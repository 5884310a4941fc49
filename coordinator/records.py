"""What can be looked up later: the audit trail, and what became of marked requests."""

import asyncio
import time

from starlette.requests import Request
from starlette.responses import Response

from coordinator import query, rights
from coordinator.access import caller
from coordinator.board import Board
from coordinator.http import Body, answer
from coordinator.sightings import Sightings
from coordinator.stores import Store
from squash.errors import ApiError
from squash.logs import Log
from squash.model import AuditEntry
from squash.settings import CoordinatorSettings

TRIM = 600.0
"""Seconds between two looks at what has been kept long enough."""
DAY = 86_400.0
_log = Log("records")


class Records:
    """Handlers of `openapi.OPERATIONS`, like those of `Api`."""

    def __init__(self, board: Board, store: Store, sightings: Sightings, settings: CoordinatorSettings) -> None:
        self._board = board
        self._store = store
        self._sightings = sightings
        self._days, self._rows = settings.audit_days, settings.audit_rows
        self._body = Body(list[AuditEntry], settings.max_body)

    async def list_audit(self, request: Request) -> Response:
        return answer(self._store.trail(query.trail(request)))

    async def add_audit(self, request: Request) -> Response:
        entries = await self._body.read(request)
        for name in {entry.attachment for entry in entries if entry.attachment}:
            if found := self._board.attachments.get(name):
                rights.check_sees(caller(request.scope), found)
        self._store.save((), entries)
        return Response()

    async def list_sightings(self, request: Request) -> Response:
        trace = request.query_params.get("trace") or None
        return answer(list(self._sightings.newest(trace, query.limit(request, max(1, len(self._sightings))))))

    async def keep_trimmed(self) -> None:
        """Until cancelled: nothing stays in the trail beyond its days and rows."""
        while True:
            try:
                self._store.trim(time.time() - self._days * DAY, self._rows)
            except ApiError as error:
                _log.warning("the audit trail cannot be trimmed now", error=error.message)
            await asyncio.sleep(TRIM)

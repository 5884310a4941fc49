"""What can be looked up later: the audit trail, and what became of marked requests."""

import asyncio
import time

from starlette.requests import Request
from starlette.responses import Response

from coordinator import query, rights
from coordinator.access import Access, caller
from coordinator.board import Board
from coordinator.http import Body, answer
from coordinator.rights import Principal
from coordinator.sightings import Sightings
from coordinator.stores import Store
from coordinator.trail import Wanted
from squash.access import DAY
from squash.errors import ApiError
from squash.logs import Log
from squash.model import Action, AuditEntry
from squash.reasons import Reason
from squash.settings import CoordinatorSettings

TRIM = 600.0
"""Seconds between two looks at what has been kept long enough."""
_log = Log("records")


class Records:
    """Handlers of `openapi.OPERATIONS`, like those of `Api`."""

    def __init__(
        self, board: Board, store: Store, sightings: Sightings, access: Access, settings: CoordinatorSettings
    ) -> None:
        self._access = access
        self._board = board
        self._store = store
        self._sightings = sightings
        self._days, self._rows = settings.audit_days, settings.audit_rows
        self._body = Body(list[AuditEntry], settings.max_body)

    async def list_audit(self, request: Request) -> Response:
        return answer(self._store.trail(query.trail(request)))

    async def add_audit(self, request: Request) -> Response:
        principal, now = caller(request.scope), time.time()
        entries = [rights.told_entry(principal, entry, now) for entry in await self._body.read(request)]
        for name in {entry.attachment for entry in entries if entry.attachment}:
            self._check_served(principal, name)
        self._store.save((), entries)
        return Response()

    def _check_served(self, principal: Principal, name: str) -> None:
        """Whether this agent may serve the attachment; of one that is gone, whether it did."""
        if found := self._board.attachments.get(name):
            rights.check_sees(principal, found)
        elif principal.known and not principal.all_powerful:
            claimed = Wanted(attachment=name, actor=principal.subject, action=Action.CLAIMED, limit=1)
            if not self._store.trail(claimed):
                message = f"debug attachment {name[:64]!r} is not there, and {principal} never claimed it"
                raise ApiError(403, Reason.NOT_YOURS, message)

    async def list_sightings(self, request: Request) -> Response:
        trace = request.query_params.get("trace") or None
        return answer(list(self._sightings.newest(trace, query.limit(request, max(1, len(self._sightings))))))

    async def keep_trimmed(self) -> None:
        """Until cancelled: nothing stays in the trail beyond its days and rows, and no token long after its end."""
        while True:
            try:
                self._store.trim(time.time() - self._days * DAY, self._rows)
                self._access.forget()
            except ApiError as error:
                _log.warning("the audit trail and the tokens cannot be trimmed now", error=error.message)
            await asyncio.sleep(TRIM)

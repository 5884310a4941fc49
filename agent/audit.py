"""Tells the coordinator's audit trail what happens in sessions: in batches, beside the way of the bytes."""

import asyncio
import contextlib
from collections import deque

import msgspec
from msgspec.structs import replace

from agent.report import PAUSES
from squash.calls import add_audit
from squash.client import AsyncClient
from squash.errors import ApiError, UnreachableError
from squash.logs import Log
from squash.model import LONGEST_TEXT, AuditEntry

GATHER = 0.2
"""Seconds in which what happens is told together."""
BATCH = 200
"""Entries told at once."""
BYTES = 131_072
"""Of their JSON: half of what a coordinator takes, unless it is set otherwise."""
LATER = frozenset({401, 408, 429})
"""Refusals that say nothing of the entries: a token that expired can be exchanged, and a crowd passes."""
LONGEST = 10_000
"""Entries that wait for a lost coordinator, a few MB; then the oldest are given up, and how many is logged."""
LAST = 2.0
"""Seconds that a stopping agent is given to tell the rest."""
_encode = msgspec.json.Encoder().encode


class Pending:
    """Entries that are yet to be told, oldest first. One that repeats the one before only counts it up. Pure."""

    def __init__(self) -> None:
        self._entries: deque[tuple[AuditEntry, int]] = deque()
        self.given_up = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: AuditEntry) -> None:
        if self._entries:
            last, times = self._entries[-1]
            if replace(entry, time=last.time) == last:
                self._entries[-1] = last, times + 1
                return
        if len(self._entries) == LONGEST:
            self._entries.popleft()
            self.given_up += 1
        self._entries.append((entry, 1))

    def take(self, most: int) -> list[AuditEntry]:
        """The oldest, without keeping them: one at least, and no more than `BYTES` of them."""
        taken: list[AuditEntry] = []
        size = 0
        while self._entries and len(taken) < most:
            entry, times = self._entries[0]
            told = entry if times == 1 else _counted(entry, times)
            size += len(_encode(told)) + 1
            if taken and size > BYTES:
                break
            self._entries.popleft()
            taken.append(told)
        return taken

    def put_back(self, entries: list[AuditEntry]) -> None:
        """What could not be told after all."""
        room = LONGEST - len(self._entries)
        self.given_up += max(0, len(entries) - room)
        self._entries.extendleft((entry, 1) for entry in reversed(entries[-room:] if room > 0 else []))


class Audit:
    """`tell` never waits; `run` delivers, across the coordinator's absences."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._log = Log("audit")
        self._pending = Pending()
        self._batch = BATCH
        """How many are told at once; fewer while one of them is refused."""
        self._news = asyncio.Event()
        self._closing = asyncio.Event()

    def tell(self, entry: AuditEntry) -> None:
        self._pending.add(entry)
        self._news.set()

    async def run(self) -> None:
        """Until `close`, or until it is cancelled."""
        while not self._closing.is_set():
            await self._news.wait()
            # Nothing waits for these: telling them together spares the coordinator a write for each.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), GATHER)
            self._news.clear()
            await self._deliver()

    def close(self) -> None:
        """No more comes; `run` ends when everything is told."""
        self._closing.set()
        self._news.set()

    async def _deliver(self) -> None:
        tries = 0
        while self._pending:
            if await self._try():
                tries = 0
            else:
                await asyncio.sleep(PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1
        if self._pending.given_up:
            self._log.error("audit entries were given up", entries=self._pending.given_up)
            self._pending.given_up = 0

    async def _try(self) -> bool:
        """False when the coordinator cannot take them just now."""
        batch = left = self._pending.take(self._batch)
        try:
            await self._client.send(add_audit(batch))
            left = []
            self._batch = min(BATCH, 2 * self._batch)
        except UnreachableError:
            return False
        except ApiError as error:
            if error.code >= 500 or error.code in LATER:
                return False
            self._batch = max(1, len(batch) // 2)
            if len(batch) == 1:
                left = []  # it never will
                self._log.error("audit entry refused", error=error.message, action=batch[0].action)
        finally:
            self._pending.put_back(left)
        return True


def _counted(entry: AuditEntry, times: int) -> AuditEntry:
    detail = f"{entry.detail}, {times} times" if entry.detail else f"{times} times"
    return replace(entry, detail=detail[-LONGEST_TEXT:])

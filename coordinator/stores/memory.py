"""A store that forgets: for tests, and where nothing may be written."""

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from coordinator.decision import Change
from coordinator.tokens import Kept
from coordinator.trail import Wanted
from squash.model import AuditEntry

MOST = 20_000
"""Entries of the audit trail that are remembered: about 10 MB."""


class MemoryStore:
    def __init__(self) -> None:
        self._trail: deque[AuditEntry] = deque(maxlen=MOST)

    def load(self) -> Iterable[Change]:
        return ()

    def save(self, changes: Iterable[Change], trail: Sequence[AuditEntry] = ()) -> None:
        """The board itself is all the memory there is of the objects."""
        self._trail.extend(trail)

    def trail(self, wanted: Wanted) -> list[AuditEntry]:
        newest = islice((entry for entry in reversed(self._trail) if wanted.has(entry)), wanted.limit)
        return list(newest)[::-1]

    def trim(self, before: float, most: int) -> None:
        while self._trail and (len(self._trail) > most or self._trail[0].time < before):
            self._trail.popleft()

    def tokens(self) -> Iterable[Kept]:
        return ()

    def save_token(self, kept: Kept, trail: Sequence[AuditEntry] = ()) -> None:
        """Whoever asked for it remembers the token."""
        self._trail.extend(trail)

    def drop_token(self, name: str) -> None:
        """There is none."""

    def probe(self) -> None:
        """Always succeeds."""

    def close(self) -> None:
        """Nothing is open."""

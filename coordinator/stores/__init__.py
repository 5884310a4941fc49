"""Where the board's objects and the audit trail are kept between two lives of the coordinator."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from coordinator.decision import Change
from coordinator.tokens import Kept
from coordinator.trail import Wanted
from squash.model import AuditEntry


class Store(Protocol):
    """Keeps changes and what the trail says of them, all or nothing. Raises ApiError 503 when it cannot."""

    def load(self) -> Iterable[Change]: ...  # every object, from None to what it is, oldest first
    def save(self, changes: Iterable[Change], trail: Sequence[AuditEntry] = ()) -> None: ...
    def trail(self, wanted: Wanted) -> list[AuditEntry]: ...  # oldest first
    def trim(self, before: float, most: int) -> None: ...  # the only way in which entries go: by age, by number
    def tokens(self) -> Iterable[Kept]: ...
    def save_token(self, kept: Kept, trail: Sequence[AuditEntry] = ()) -> None: ...  # also in place of what it was
    def drop_token(self, name: str) -> None: ...
    def probe(self) -> None: ...  # whether a save would succeed
    def close(self) -> None: ...

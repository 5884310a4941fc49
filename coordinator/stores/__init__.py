"""Where the board's objects are kept between two lives of the coordinator."""

from collections.abc import Iterable
from typing import Protocol

from coordinator.decision import Change


class Store(Protocol):
    """Keeps changes all or nothing. `save` and `probe` raise ApiError 503 when it cannot."""

    def load(self) -> Iterable[Change]: ...  # every object, from None to what it is, oldest first
    def save(self, changes: Iterable[Change]) -> None: ...
    def probe(self) -> None: ...  # whether a save would succeed
    def close(self) -> None: ...

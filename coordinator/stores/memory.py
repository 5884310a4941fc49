"""A store that forgets: for tests, and where nothing may be written."""

from collections.abc import Iterable

from coordinator.decision import Change


class MemoryStore:
    def load(self) -> Iterable[Change]:
        return ()

    def save(self, changes: Iterable[Change]) -> None:
        """The board itself is all the memory there is."""

    def probe(self) -> None:
        """Always succeeds."""

    def close(self) -> None:
        """Nothing is open."""

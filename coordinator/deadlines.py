"""Which objects are due, without looking at the others."""

import heapq
from collections.abc import Iterator

Key = tuple[str, str]
"""A kind and the name of one of it."""
_SLACK = 64


class Deadlines:
    """One moment (unix seconds) for each key. Reading changes nothing that can be seen from outside."""

    def __init__(self) -> None:
        self._at: dict[Key, float] = {}
        self._heap: list[tuple[float, Key]] = []

    def set(self, key: Key, at: float | None) -> None:
        """Gives the key its moment, in place of an earlier one; None takes it away."""
        if self._at.get(key) == at:
            return
        if at is None:
            del self._at[key]
        else:
            self._at[key] = at
            heapq.heappush(self._heap, (at, key))
        # Overtaken entries stay in the heap until they come up, unless they would outnumber the others.
        if len(self._heap) > 2 * len(self._at) + _SLACK:
            self._heap = [(at, key) for key, at in self._at.items()]
            heapq.heapify(self._heap)

    def next(self) -> float | None:
        """The earliest moment of all."""
        while self._heap and not self._current(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Key]:
        """Every key whose moment has come, in no order. It stays due until its moment is set anew."""
        seen: set[Key] = set()
        places = [0]
        while places:
            place = places.pop()
            if place < len(self._heap) and self._heap[place][0] <= now:
                entry = self._heap[place]
                if self._current(entry) and entry[1] not in seen:
                    seen.add(entry[1])
                    yield entry[1]
                places += (2 * place + 1, 2 * place + 2)

    def _current(self, entry: tuple[float, Key]) -> bool:
        return self._at.get(entry[1]) == entry[0]

"""How long to wait before the next try."""


class Backoff:
    """The first try again comes at once, then after `first` seconds, doubling up to `most`."""

    def __init__(self, most: float, first: float = 0.05) -> None:
        self._most = most
        self._first = min(first, most)
        self._next = 0.0

    def reset(self) -> None:
        """It worked."""
        self._next = 0.0

    def pause(self) -> float:
        """Seconds to wait now."""
        now = self._next
        self._next = min(now * 2 or self._first, self._most)
        return now

"""Auto-debug, decided: which failed, slow or next request is to be held. Pure; times in seconds, passed in.

wishes come >> armed;  a failure that fits >> hold it, and nothing else meanwhile << over;  wishes gone >> not armed
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from squash import trigger
from squash.model import Failure, Trigger, Wish

HOT = 60.0
"""Seconds after a slow answer in which the next such request is held. All requests are asked about meanwhile."""


class Kind(StrEnum):
    """What Envoy has to look out for, besides slow answers: one of these at a time."""

    IDLE = "idle"
    """Nothing: no debug request with such a trigger is pending, or one is held already."""
    FAILURE = "failure"
    NEXT = "next"
    """The same, and each request is asked about before it goes on: one like it was slow."""


class Skip(StrEnum):
    """Why a request is not held."""

    NOTHING_PENDING = "nothing_pending"
    METHOD = "method"
    PATH = "path"
    STATUS = "status"
    DURATION = "duration"
    TOO_LARGE = "too_large"
    """Envoy keeps no more of a body than its buffer takes, so it could not replay it."""
    BUSY = "busy"
    """Another one is held already."""
    REPLAYED = "replayed"
    """It is the answer to the replay."""
    STREAM = "stream"
    """An upgrade, such as to a WebSocket, or gRPC."""
    MARKED = "marked"
    """It bears a mark, and is held by that or not at all; or it was held, and is slow because of that."""


@dataclass(frozen=True)
class Seen:
    """A request and, if it has one already, its answer. Sizes in bytes."""

    method: str
    path: str
    failure: Failure = field(default_factory=Failure)
    size: int = 0
    largest: int = 0
    attempt: int = 1
    stream: bool = False
    marked: bool = False


@dataclass(frozen=True)
class _Slow:
    seen: Seen
    until: float


class Lookout:
    """Knows the wishes, and holds at most one request at a time."""

    def __init__(self) -> None:
        self._wishes: Sequence[Wish] = ()
        self._slow: dict[str, _Slow] = {}
        self.busy = False
        """Whether a request is held."""

    def take(self, wishes: Sequence[Wish]) -> None:
        """What is pending now, oldest first."""
        self._wishes = wishes
        names = {wish.name for wish in wishes}
        self._slow = {name: slow for name, slow in self._slow.items() if name in names}

    def armed(self, now: float) -> Kind:
        """What Envoy has to look out for."""
        if self.busy:
            return Kind.IDLE
        if self._hot(now):
            return Kind.NEXT
        return Kind.FAILURE if Trigger.FAILURE in {wish.trigger for wish in self._wishes} else Kind.IDLE

    def slow_from(self, now: float) -> float | None:
        """Seconds from which an answer is told as a slow one; None: none is."""
        if self.busy:
            return None
        waiting = (wish for wish in self._wishes if wish.trigger is Trigger.LATENCY and wish.name not in self._hot(now))
        return min((wish.threshold or trigger.SLOW for wish in waiting), default=None)

    def next_change(self, now: float) -> float | None:
        """When one of these changes by itself."""
        return min((slow.until for slow in self._slow.values() if slow.until > now), default=None)

    def failed(self, seen: Seen) -> Skip | None:
        """Whether to hold and replay a request that failed: None when it is."""
        skip = self._unfit(seen) or self._engaged()
        if skip is None and seen.size > seen.largest:
            skip = Skip.TOO_LARGE
        return skip or self._misfit(Trigger.FAILURE, seen)

    def slow(self, seen: Seen, now: float) -> Skip | None:
        """Remembers a slow request, so that the next such one is held."""
        if skip := self._unfit(seen):
            return skip
        found: Skip | None = Skip.NOTHING_PENDING
        for wish in self._wishes:
            if wish.trigger is Trigger.LATENCY and wish.name not in self._hot(now):
                misfit = trigger.misfit(wish, seen.method, seen.path, seen.failure)
                if misfit is None:
                    self._slow[wish.name] = _Slow(seen, now + HOT)
                    return None
                found = Skip(misfit)
        return found

    def due(self, seen: Seen, now: float) -> Failure | Skip:
        """The slow answer for which a request that comes now is to be held."""
        if skip := self._unfit(seen) or self._engaged():
            return skip
        hot = self._hot(now)
        found = Skip.NOTHING_PENDING
        for wish in self._wishes:
            if wish.name not in hot:
                continue
            before = hot[wish.name].seen
            # Without a pattern that says which paths are alike, only the same path is.
            if seen.method != before.method:
                found = Skip.METHOD
            elif trigger.path_fits(wish.path, seen.path) if wish.path else _bare(seen.path) == _bare(before.path):
                return before.failure
            else:
                found = Skip.PATH
        return found

    def _hot(self, now: float) -> dict[str, _Slow]:
        return {name: slow for name, slow in self._slow.items() if slow.until > now}

    def _engaged(self) -> Skip | None:
        return Skip.BUSY if self.busy else None

    @staticmethod
    def _unfit(seen: Seen) -> Skip | None:
        if seen.attempt > 1:
            return Skip.REPLAYED
        if seen.marked:
            return Skip.MARKED
        return Skip.STREAM if seen.stream else None

    def _misfit(self, kind: Trigger, seen: Seen) -> Skip | None:
        found = Skip.NOTHING_PENDING
        for wish in self._wishes:
            if wish.trigger is kind:
                misfit = trigger.misfit(wish, seen.method, seen.path, seen.failure)
                if misfit is None:
                    return None
                found = Skip(misfit)
        return found


def _bare(path: str) -> str:
    return path.partition("?")[0]

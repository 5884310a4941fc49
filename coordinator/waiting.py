"""Long polls and watches: everyone who waits is woken by the changes they wait for, by no others, and misses none."""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from coordinator.decision import AttachmentChange, Change, RequestChange
from squash import images
from squash.model import Trigger

T = TypeVar("T")
Key = tuple[str, str]
"""A kind (`attachment`, `request`, `trigger` with its image, `node`, `holder`, `any`) and which one of it."""
ANY: Key = ("any", "")
LOG_LENGTH = 10_000
"""Changes that are remembered for those who ask later: about 2 MB."""


class Entry(NamedTuple):
    """One change of an attachment; `number` is the revision that it made."""

    number: int
    name: str
    node: str | None
    holder: str | None
    gone: bool
    """Whether it was removed."""


class Waiting:
    """Lives in one event loop. A look and the wait after it have no gap between them, so no change falls in it."""

    def __init__(self, log_length: int = LOG_LENGTH) -> None:
        self._epoch = secrets.token_hex(8)
        self._count = 0
        self._log: deque[Entry] = deque(maxlen=log_length)
        self._waiters: dict[Key, set[_Waiter]] = {}
        self._waiting = 0
        self.closed = False

    def __len__(self) -> int:
        """How many wait."""
        return self._waiting

    @property
    def revision(self) -> str:
        """Where the log stands, in a form that another start of the coordinator does not take for its own."""
        return f"{self._epoch}.{self._count}"

    def count_of(self, revision: str) -> int | None:
        """The number in a revision; None when it was another start's or is too old to tell what came after it."""
        epoch, _, digits = revision.partition(".")
        if epoch != self._epoch or not (digits.isascii() and digits.isdigit()) or len(digits) > 18:
            return None
        count = int(digits)
        return count if count <= self._count and self.remembers(count) else None

    def remembers(self, count: int) -> bool:
        """Whether every change after this one is still known."""
        return count >= self._count - len(self._log)

    def since(self, count: int) -> Iterator[Entry]:
        """The changes after a revision that `count_of` took, the newest first."""
        for entry in reversed(self._log):
            if entry.number <= count:
                return
            yield entry

    def notify(self, changes: Iterable[Change]) -> None:
        """Remembers the changes and wakes who waits for one of them."""
        for change in changes:
            if isinstance(change, AttachmentChange):
                self._wake(self._remember(change), self._count)
            else:
                self._wake(_request_keys(change), self._count)

    async def wait(
        self, keys: Iterable[Key], look: Callable[[int], T | None], seconds: float, hung_up: asyncio.Future[Any]
    ) -> T | None:
        """Looks now and after each change of one of the keys, until `look` finds something.

        `look` is told the count up to which nothing new is to be found. None: the time (`seconds`) ran out, the
        client hung up, or the coordinator stops.
        """
        keys = frozenset(keys)
        waiter = _Waiter()
        timer = asyncio.get_running_loop().call_later(seconds, waiter.end)
        hung_up.add_done_callback(waiter.end)
        self._register(keys, waiter)
        try:
            found = look(self._count)
            while found is None and not waiter.over and not self.closed:
                first = await waiter.woken()
                found = look(self._count if first is None else first - 1)
            return found
        finally:
            self._unregister(keys, waiter)
            hung_up.remove_done_callback(waiter.end)
            timer.cancel()

    def close(self) -> None:
        """Ends every wait, the later ones too."""
        self.closed = True
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.end()

    def _remember(self, change: AttachmentChange) -> tuple[Key, ...]:
        some = change.after or change.before
        node, holder = (some.spec.node, some.spec.holder) if some else (None, None)
        self._count += 1
        self._log.append(Entry(self._count, change.name, node, holder, change.after is None))
        return ANY, ("attachment", change.name), ("node", node or ""), ("holder", holder or "")

    def _wake(self, keys: Iterable[Key], count: int) -> None:
        for key in keys:
            for waiter in self._waiters.get(key, ()):
                waiter.wake(count)

    def _register(self, keys: Iterable[Key], waiter: "_Waiter") -> None:
        self._waiting += 1
        for key in keys:
            self._waiters.setdefault(key, set()).add(waiter)

    def _unregister(self, keys: Iterable[Key], waiter: "_Waiter") -> None:
        self._waiting -= 1
        for key in keys:
            waiters = self._waiters[key]
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[key]


def _request_keys(change: RequestChange) -> Iterator[Key]:
    yield "request", change.name
    some = change.after or change.before
    if some and some.spec.trigger not in (None, Trigger.MARK):
        yield "trigger", images.key(some.spec.image)


class _Waiter:
    """One who waits. Between two looks only the first change counts: those before it were others'."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._first: int | None = None
        self.over = False

    def wake(self, count: int) -> None:
        if self._first is None:
            self._first = count
        self._event.set()

    def end(self, *_: object) -> None:
        """The wait is over: one last look."""
        self.over = True
        self._event.set()

    async def woken(self) -> int | None:
        """The count of the first change since the last look; None when it is over without one."""
        await self._event.wait()
        self._event.clear()
        first, self._first = self._first, None
        return first

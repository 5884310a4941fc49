"""What Envoy is to look out for now: asked of the coordinator while an Envoy asks here, and only then."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

from squash.calls import wishes
from squash.errors import ApiError, SquashError
from squash.logs import Log
from squash.model import Wish
from squash.tasks import spawn

from .backoff import Backoff
from .http1 import Http1Client
from .lookout import Kind, Lookout

WAIT = 30.0
"""Seconds of one long poll."""
SILENCE = 60.0
"""Seconds without a call of an Envoy after which the coordinator is no longer asked either."""
LONGEST_PAUSE = 1.0
"""Seconds between two tries while the coordinator does not answer."""
LONGEST_REFUSED = 10.0
"""The same while it refuses: it does not know the container, or that is not for this sidecar's token."""
_log = Log("armed")


class Armed:
    """Keeps a `Lookout` up to date. `where` names the container; `decided` is told when something comes or goes."""

    def __init__(
        self, client: Http1Client, where: Mapping[str, str], lookout: Lookout, decided: Callable[[str], None]
    ) -> None:
        self._client = client
        self._where = where
        self._lookout = lookout
        self._decided = decided
        self._backoff = Backoff(LONGEST_PAUSE, first=0.5)
        self._refused = Backoff(LONGEST_REFUSED, first=0.5)
        self._asked = float("-inf")
        self._moved = asyncio.Event()
        self._epoch = secrets.token_hex(4)
        self._count = 0
        self._kind = Kind.IDLE
        self._slow_from: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False

    @property
    def version(self) -> str:
        """Of `kind` and `slow_from`; another one after each start of this process."""
        return f"{self._epoch}.{self._count}"

    @property
    def kind(self) -> Kind:
        """What Envoy has to look out for."""
        return self._kind

    @property
    def slow_from(self) -> float | None:
        """Seconds from which an answer is to be told as a slow one; None: none is."""
        return self._slow_from

    async def changed(self, version: str, seconds: float) -> bool:
        """Waits for another version than this, or for the end; False when there is neither after so many seconds."""
        self._asked = time.monotonic()
        if not self._stopped and "pod" in self._where and (self._task is None or self._task.done()):
            self._task = spawn(self._run(), "armed")
        try:
            async with asyncio.timeout(seconds):
                while self.version == version and not self._stopped:
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    def look(self) -> None:
        """Something happened to the lookout, or may have by itself."""
        now = asyncio.get_running_loop().time()
        kind = Kind.IDLE if self._stopped else self._lookout.armed(now)
        slow_from = None if self._stopped else self._lookout.slow_from(now)
        if self._timer is not None:
            self._timer.cancel()
        due = self._lookout.next_change(now)
        self._timer = asyncio.get_running_loop().call_at(due, self.look) if due is not None else None
        if (kind, slow_from) == (self._kind, self._slow_from):
            return
        before, after = (found != (Kind.IDLE, None) for found in ((self._kind, self._slow_from), (kind, slow_from)))
        if before != after:
            self._decided("armed" if after else "disarmed")
        _log.info("looks out for", kind=kind, slow_from=slow_from)
        self._kind, self._slow_from = kind, slow_from
        self._count += 1
        self._moved.set()
        self._moved = asyncio.Event()

    def stop(self) -> None:
        """Nothing is armed any more, and who waits is answered."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
        self.look()
        self._count += 1
        self._moved.set()

    async def _run(self) -> None:
        since, lost = "", False
        while time.monotonic() - self._asked < SILENCE:
            began = time.monotonic()
            try:
                answer = await self._client.send(wishes(self._where, since=since, wait=WAIT))
            except SquashError as error:
                if isinstance(error, ApiError) and error.code == 408:
                    # No news: how long a poll may take is the coordinator's to say.
                    if time.monotonic() - began < LONGEST_PAUSE:
                        await asyncio.sleep(self._backoff.pause())
                    continue
                if not lost:
                    _log.info("cannot learn what is pending, trying again", problem=error.message)
                # Nothing can be held now, so nothing need be looked out for.
                since, lost = "", True
                self._take(())
                refused = isinstance(error, ApiError) and error.code < 500
                await asyncio.sleep((self._refused if refused else self._backoff).pause())
            else:
                if answer.revision == since:
                    await asyncio.sleep(self._backoff.pause())
                    continue
                since, lost = answer.revision, False
                self._backoff.reset()
                self._refused.reset()
                self._take(answer.wishes)
        self._take(())

    def _take(self, pending: Sequence[Wish]) -> None:
        self._lookout.take(pending)
        self.look()

"""One held request as a state machine: events in, commands out, time passed in.

    marked request >> create attachment << 201 >> wait << attached >> let go

Every hold is let go exactly once, with one `Result`. Whoever drives it (a front end's shell) carries out the
commands, and hands in `Tick` when `deadline` has come. All times are seconds of one clock that never goes back.
"""

from dataclasses import dataclass
from enum import StrEnum

from squash.model import DebugAttachment, Outcome, State
from squash.reasons import TICKET_REFUSALS, Reason
from squash.result import Result


class Stage(StrEnum):
    """Where a hold stands; moves forward only."""

    NEW = "new"
    CREATING = "creating"
    WAITING = "waiting"
    OVER = "over"


# -- events -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Marked:
    """A marked request came and stands still."""


@dataclass(frozen=True, slots=True)
class Overloaded:
    """A marked request came, but as many are held already as may be."""


@dataclass(frozen=True, slots=True)
class Barred:
    """A marked request came, but whoever asked for it may not."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Created:
    """The coordinator has the attachment."""

    attachment: DebugAttachment


@dataclass(frozen=True, slots=True)
class Refused:
    """The coordinator answered the creation, but not with an attachment."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Changed:
    """The attachment as it stands now."""

    attachment: DebugAttachment


@dataclass(frozen=True, slots=True)
class Vanished:
    """The attachment was deleted."""


@dataclass(frozen=True, slots=True)
class CallerGone:
    """Whoever sent the request has hung up."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The process that holds is going down."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = Marked | Overloaded | Barred | Created | Refused | Changed | Vanished | CallerGone | Stopping | Tick

# -- commands ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Create:
    """Ask the coordinator for an attachment of this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The attachment exists: watch it."""

    name: str


@dataclass(frozen=True, slots=True)
class LetGo:
    """The request goes on, now."""

    result: Result


@dataclass(frozen=True, slots=True)
class Cancel:
    """Nobody waits for the attachment any more: put it in error, and say how the hold ended."""

    name: str
    outcome: Outcome
    reason: Reason


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the coordinator how the hold ended; the attachment itself stays as it is."""

    name: str
    outcome: Outcome


Command = Create | Wait | LetGo | Cancel | Report


class IllegalEventError(Exception):
    """A hold was driven in a way that no order of real events can explain."""


_UNAVAILABLE = frozenset({Reason.STORE_UNAVAILABLE, Reason.STOPPING, Reason.COORDINATOR_UNREACHABLE})
_LET_GO_BY_HAND = frozenset({Reason.RELEASED, Reason.DELETED})


_NOBODY_WAITS = frozenset({Reason.NO_PENDING_REQUEST, *TICKET_REFUSALS})


def _refusal(reason: Reason) -> Outcome:
    if reason in _NOBODY_WAITS:
        return Outcome.NO_MATCH
    if reason is Reason.LIMIT_REACHED:
        return Outcome.OVERLOADED
    return Outcome.UNAVAILABLE if reason in _UNAVAILABLE else Outcome.ERROR


class Hold:
    """`name` is the attachment's, chosen by the holder; both timeouts are in seconds from `Marked` on."""

    def __init__(self, name: str, *, request_timeout: float, attachment_timeout: float) -> None:
        self.name = name
        self.stage = Stage.NEW
        self.result: Result | None = None
        self.deadline: float | None = None
        """When a `Tick` is due; None once nothing is waited for."""
        self._request_timeout = request_timeout
        self._attachment_timeout = attachment_timeout
        self._since = 0.0
        self._cancelled: Cancel | None = None

    def handle(self, event: Event, now: float) -> list[Command]:
        """Takes one event. Those that come too late change nothing; an impossible one raises IllegalEventError."""
        match self.stage:
            case Stage.NEW:
                return self._new(event, now)
            case Stage.OVER:
                return self._over(event)
            case _:
                return self._held(event, now)

    def _new(self, event: Event, now: float) -> list[Command]:
        self._since = now
        match event:
            case Marked():
                self.stage = Stage.CREATING
                self.deadline = now + min(self._request_timeout, self._attachment_timeout)
                return [Create(self.name)]
            case Overloaded():
                return self._end(now, Outcome.OVERLOADED, Reason.TOO_MANY_HOLDS, exists=False)
            case Barred(reason):
                return self._end(now, Outcome.ERROR, reason, exists=False)
            case _:
                raise IllegalEventError(f"hold {self.name}: expected Marked first, but got {event}")

    def _held(self, event: Event, now: float) -> list[Command]:
        match event:
            case Created(attachment) | Changed(attachment):
                return self._seen(attachment, now)
            case Refused(reason):
                return self._refused(reason, now)
            case Vanished():
                return self._end(now, Outcome.RELEASED, Reason.DELETED)
            case CallerGone():
                return self._cancel(now, Outcome.CALLER_GONE, Reason.CALLER_GONE)
            case Stopping():
                return self._cancel(now, Outcome.UNAVAILABLE, Reason.STOPPING)
            case Tick():
                return self._tick(now)
            case Marked() | Overloaded() | Barred():
                raise IllegalEventError(f"hold {self.name}: expected Marked once, but got it again when {self.stage}")

    def _over(self, event: Event) -> list[Command]:
        match event:
            case Marked() | Overloaded() | Barred():
                raise IllegalEventError(f"hold {self.name}: expected Marked once, but got it again when {self.stage}")
            case Created() if self._cancelled:
                # The cancellation may have reached the coordinator before the creation did.
                return [self._cancelled]
            case _:
                return []

    def _seen(self, attachment: DebugAttachment, now: float) -> list[Command]:
        status = attachment.status
        match status.state:
            case State.ATTACHED:
                return [*self._end(now, Outcome.ATTACHED), Report(self.name, Outcome.ATTACHED)]
            case State.ERROR:
                outcome = Outcome.RELEASED if status.reason in _LET_GO_BY_HAND else Outcome.ERROR
                return [*self._end(now, outcome, status.reason), Report(self.name, outcome)]
        if self.stage is Stage.WAITING:
            return []
        self.stage = Stage.WAITING
        self.deadline = self._since + self._attachment_timeout
        return [Wait(self.name)]

    def _refused(self, reason: Reason, now: float) -> list[Command]:
        # Once the attachment has been seen, an answer to another try of the creation means nothing.
        return [] if self.stage is Stage.WAITING else self._end(now, _refusal(reason), reason, exists=False)

    def _tick(self, now: float) -> list[Command]:
        if self.deadline is None or now < self.deadline:
            return []
        if self.stage is Stage.CREATING:
            return self._cancel(now, Outcome.UNAVAILABLE, Reason.COORDINATOR_UNREACHABLE)
        return self._cancel(now, Outcome.TIMEOUT, Reason.HOLD_TIMEOUT)

    def _cancel(self, now: float, outcome: Outcome, reason: Reason) -> list[Command]:
        self._cancelled = Cancel(self.name, outcome, reason)
        # An attachment whose creation was not answered may exist all the same: it is cancelled, but not told of.
        exists = self.stage is Stage.WAITING
        return [*self._end(now, outcome, reason, exists=exists), self._cancelled]

    def _end(self, now: float, outcome: Outcome, reason: Reason | None = None, *, exists: bool = True) -> list[Command]:
        self.stage = Stage.OVER
        self.deadline = None
        self.result = Result(outcome, self.name if exists else None, now - self._since, reason)
        return [LetGo(self.result)]

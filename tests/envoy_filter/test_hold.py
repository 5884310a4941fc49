"""Playbooks: `<<` hands the hold an event, `>>` expects the next command; a command nobody expected fails."""

from dataclasses import dataclass
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envoy_filter.hold import (
    CallerGone,
    Cancel,
    Changed,
    Command,
    Create,
    Created,
    Event,
    Hold,
    IllegalEventError,
    LetGo,
    Marked,
    Overloaded,
    Refused,
    Report,
    Stage,
    Stopping,
    Tick,
    Vanished,
    Wait,
)
from squash.model import AttachmentSpec, AttachmentStatus, DebugAttachment, Metadata, Outcome, State
from squash.reasons import Reason
from squash.result import Result

NAME = "held-1"


@dataclass(frozen=True)
class At:
    """An event, `seconds` after the request was marked."""

    seconds: float
    event: Event


class Playbook:
    def __init__(self) -> None:
        self.hold = Hold(NAME, request_timeout=1.0, attachment_timeout=60.0)
        self.commands: list[Command] = []

    def __lshift__(self, given: Event | At) -> Self:
        assert not self.commands, f"before {given}, not expected: {self.commands}"
        at = given if isinstance(given, At) else At(0.25, given)
        if at.event == Marked():
            at = At(0.0, at.event)
        self.commands = self.hold.handle(at.event, 100.0 + at.seconds)
        return self

    def __rshift__(self, expected: Command) -> Self:
        assert self.commands, f"expected {expected}, but nothing came"
        assert self.commands.pop(0) == expected
        return self

    def __bool__(self) -> bool:
        assert not self.commands, f"at the end, not expected: {self.commands}"
        return True


def attachment(state: State = State.NONE, reason: Reason | None = None) -> DebugAttachment:
    return DebugAttachment(
        metadata=Metadata(name=NAME),
        spec=AttachmentSpec(attachment={}),
        status=AttachmentStatus(state=state, reason=reason),
    )


def let_go(outcome: Outcome, reason: Reason | None = None, *, held: float = 0.25, exists: bool = True) -> LetGo:
    return LetGo(Result(outcome, NAME if exists else None, held, reason))


def waiting() -> Playbook:
    return Playbook() << Marked() >> Create(NAME) << Created(attachment()) >> Wait(NAME)


def test_attached() -> None:
    assert (
        waiting() << Changed(attachment(State.ATTACHED)) >> let_go(Outcome.ATTACHED) >> Report(NAME, Outcome.ATTACHED)
    )


def test_goes_on_waiting_while_attaching() -> None:
    assert waiting() << Changed(attachment(State.ATTACHING)) << At(59.0, Tick()) << Created(attachment())


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (Reason.RELEASED, Outcome.RELEASED),
        (Reason.DELETED, Outcome.RELEASED),
        (Reason.ATTACH_FAILED, Outcome.ERROR),
        (None, Outcome.ERROR),
    ],
)
def test_attachment_in_error(reason: Reason | None, outcome: Outcome) -> None:
    assert waiting() << Changed(attachment(State.ERROR, reason)) >> let_go(outcome, reason) >> Report(NAME, outcome)


def test_deleted() -> None:
    assert waiting() << Vanished() >> let_go(Outcome.RELEASED, Reason.DELETED)


def test_longest_hold() -> None:
    assert (
        waiting()
        << At(59.9, Tick())
        << At(60.0, Tick())
        >> let_go(Outcome.TIMEOUT, Reason.HOLD_TIMEOUT, held=60.0)
        >> Cancel(NAME, Outcome.TIMEOUT, Reason.HOLD_TIMEOUT)
    )


def test_caller_gone_while_waiting() -> None:
    assert (
        waiting()
        << CallerGone()
        >> let_go(Outcome.CALLER_GONE, Reason.CALLER_GONE)
        >> Cancel(NAME, Outcome.CALLER_GONE, Reason.CALLER_GONE)
    )


def test_stopping_lets_go() -> None:
    assert (
        waiting()
        << Stopping()
        >> let_go(Outcome.UNAVAILABLE, Reason.STOPPING)
        >> Cancel(NAME, Outcome.UNAVAILABLE, Reason.STOPPING)
    )


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [
        (Reason.NO_PENDING_REQUEST, Outcome.NO_MATCH),
        (Reason.CONTAINER_NOT_FOUND, Outcome.ERROR),
        (Reason.COORDINATOR_REFUSED, Outcome.ERROR),
        (Reason.STORE_UNAVAILABLE, Outcome.UNAVAILABLE),
        (Reason.STOPPING, Outcome.UNAVAILABLE),
    ],
)
def test_refused(reason: Reason, outcome: Outcome) -> None:
    assert Playbook() << Marked() >> Create(NAME) << Refused(reason) >> let_go(outcome, reason, exists=False)


def test_unanswered_creation_is_cancelled_when_it_lands_late() -> None:
    cancel = Cancel(NAME, Outcome.UNAVAILABLE, Reason.COORDINATOR_UNREACHABLE)
    assert (
        Playbook()
        << Marked()
        >> Create(NAME)
        << At(0.9, Tick())
        << At(1.0, Tick())
        >> let_go(Outcome.UNAVAILABLE, Reason.COORDINATOR_UNREACHABLE, held=1.0, exists=False)
        >> cancel
        << At(1.5, Created(attachment()))
        >> cancel
        << At(1.6, Changed(attachment(State.ATTACHED)))
    )


@pytest.mark.parametrize(
    ("event", "outcome", "reason"),
    [
        (CallerGone(), Outcome.CALLER_GONE, Reason.CALLER_GONE),
        (Stopping(), Outcome.UNAVAILABLE, Reason.STOPPING),
    ],
)
def test_over_while_created(event: Event, outcome: Outcome, reason: Reason) -> None:
    """Nobody is told of an attachment that perhaps never was."""
    cancel = Cancel(NAME, outcome, reason)
    assert (
        Playbook()
        << Marked()
        >> Create(NAME)
        << event
        >> let_go(outcome, reason, exists=False)
        >> cancel
        << Created(attachment())
        >> cancel
    )


def test_attached_before_the_creation_is_answered() -> None:
    assert (
        Playbook()
        << Marked()
        >> Create(NAME)
        << Changed(attachment(State.ATTACHED))
        >> let_go(Outcome.ATTACHED)
        >> Report(NAME, Outcome.ATTACHED)
        << Created(attachment())
    )


def test_refusal_after_the_attachment_was_seen() -> None:
    assert waiting() << Refused(Reason.NAME_TAKEN)


def test_goes_on_at_once_when_too_many_are_held() -> None:
    assert (
        Playbook()
        << At(0.0, Overloaded())
        >> let_go(Outcome.OVERLOADED, Reason.TOO_MANY_HOLDS, held=0.0, exists=False)
        << Stopping()
        << Tick()
    )


def test_events_that_cannot_be() -> None:
    with pytest.raises(IllegalEventError, match=r"held-1: expected Marked first, but got Tick\(\)"):
        Hold(NAME, request_timeout=1, attachment_timeout=60).handle(Tick(), 0.0)
    for hold in (waiting().hold, (waiting() << Vanished() >> let_go(Outcome.RELEASED, Reason.DELETED)).hold):
        with pytest.raises(IllegalEventError, match="expected Marked once"):
            hold.handle(Marked(), 101.0)
        with pytest.raises(IllegalEventError, match="expected Marked once"):
            hold.handle(Overloaded(), 101.0)


attachments = st.builds(attachment, st.sampled_from(State), st.sampled_from(Reason) | st.none())
events: st.SearchStrategy[Any] = st.one_of(
    st.builds(Created, attachments),
    st.builds(Changed, attachments),
    st.builds(Refused, st.sampled_from(Reason)),
    *(st.just(event) for event in (Vanished(), CallerGone(), Stopping(), Tick())),
)


@given(st.lists(st.tuples(events, st.floats(0, 30))))
def test_any_order_of_events_has_exactly_one_outcome(script: list[tuple[Any, float]]) -> None:
    hold = Hold(NAME, request_timeout=1.0, attachment_timeout=60.0)
    now = 0.0
    commands = hold.handle(Marked(), now)
    stages = [hold.stage]
    for event, pause in script:
        now += pause
        commands += hold.handle(event, now)
        stages.append(hold.stage)
        # Whoever drives a hold needs to be woken exactly as long as it is not over.
        assert (hold.deadline is None) == (hold.stage is Stage.OVER)
    if hold.deadline is not None:
        now = max(now, hold.deadline)
        commands += hold.handle(Tick(), now)
        stages.append(hold.stage)
    results = [command.result for command in commands if isinstance(command, LetGo)]
    assert results == [hold.result]
    assert hold.stage is Stage.OVER
    assert stages == sorted(stages, key=list(Stage).index)
    told = {command.outcome for command in commands if isinstance(command, Cancel | Report)}
    assert told <= {results[0].outcome}

"""Which steps of an attachment are legal, and what each leaves behind."""

from itertools import product
from typing import Any

import pytest

from coordinator import lifecycle
from squash.errors import ApiError
from squash.model import AttachmentSpec, DebugAttachment, Outcome, Phase, State, StatusPatch
from squash.reasons import Reason


def new(**spec: Any) -> DebugAttachment:
    return lifecycle.created("one", AttachmentSpec(attachment={}, **spec), 100.0)


def at(state: State) -> DebugAttachment:
    return new() if state is State.NONE else lifecycle.patched(new(), StatusPatch(state=state), 101.0)


def refused(attachment: DebugAttachment, **patch: Any) -> str:
    with pytest.raises(ApiError) as caught:
        lifecycle.patched(attachment, StatusPatch(**patch), 103.0)
    assert (caught.value.code, caught.value.reason) == (409, Reason.ILLEGAL_STEP)
    return caught.value.message


@pytest.mark.parametrize(("old", "wanted"), list(product(State, State)))
def test_states_move_strictly_forward(old: State, wanted: State) -> None:
    if wanted.rank > old.rank:
        moved = lifecycle.patched(at(old), StatusPatch(state=wanted), 102.0)
        assert moved.status.state is wanted
        assert (moved.status.times or {})[wanted.value] == 102.0
    else:
        message = refused(at(old), state=wanted)
        assert f"is {old}" in message
        assert f"become {wanted}" in message


@pytest.mark.parametrize(("old", "wanted"), list(product(Phase, Phase)))
def test_phases_never_move_back(old: Phase, wanted: Phase) -> None:
    attachment = lifecycle.patched(new(), StatusPatch(phase=old), 101.0)
    if wanted.rank >= old.rank:
        assert lifecycle.patched(attachment, StatusPatch(phase=wanted), 102.0).status.phase is wanted
    else:
        message = refused(attachment, phase=wanted)
        assert f"is {old}" in message
        assert f"become {wanted}" in message


@pytest.mark.parametrize(
    ("field", "first", "second"),
    [
        ("agent", "a", "b"),
        ("debug_server_address", "unix:/a", "unix:/b"),
        ("outcome", Outcome.ATTACHED, Outcome.TIMEOUT),
    ],
)
def test_some_fields_are_set_once(field: str, first: Any, second: Any) -> None:
    attachment = lifecycle.patched(new(), StatusPatch(**{field: first}), 101.0)
    assert lifecycle.patched(attachment, StatusPatch(**{field: first}), 102.0) == attachment
    message = refused(attachment, **{field: second})
    assert first in message
    assert second in message


def test_second_claim_names_the_first_agent() -> None:
    claimed = lifecycle.patched(new(), StatusPatch(state=State.ATTACHING, agent="first"), 101.0)
    assert "by agent first" in refused(claimed, state=State.ATTACHING, agent="second")


def test_each_step_has_its_time() -> None:
    attachment = new()
    for time, patch in (
        (1.0, StatusPatch(state=State.ATTACHING, phase=Phase.RESOLVING)),
        (2.0, StatusPatch(message="on it")),
        (3.0, StatusPatch(state=State.ATTACHED, phase=Phase.LISTENING)),
        (4.0, StatusPatch(outcome=Outcome.ATTACHED)),
        (5.0, StatusPatch(phase=Phase.DETACHED)),
    ):
        attachment = lifecycle.patched(attachment, patch, time)
    assert attachment.status.times == {
        "none": 100.0,
        "located": 100.0,
        "attaching": 1.0,
        "resolving": 1.0,
        "attached": 3.0,
        "listening": 3.0,
        "let_go": 4.0,
        "detached": 5.0,
    }


def test_what_happens_after_an_error_is_still_told() -> None:
    attachment = lifecycle.patched(at(State.ERROR), StatusPatch(outcome=Outcome.TIMEOUT, phase=Phase.DETACHED), 103.0)
    assert (attachment.status.state, attachment.status.outcome) == (State.ERROR, Outcome.TIMEOUT)
    assert (attachment.status.times or {})["let_go"] == 103.0


def test_release_is_an_error_with_its_phase_and_time() -> None:
    status = lifecycle.released(at(State.ATTACHING), 102.0, "why").status
    assert (status.state, status.reason, status.phase) == (State.ERROR, Reason.RELEASED, Phase.RELEASED)
    assert (status.message, (status.times or {})["released"]) == ("why", 102.0)


@pytest.mark.parametrize(
    ("holder", "outcome", "reason"),
    [
        (None, None, Reason.EXPIRED),
        ("sidecar", None, Reason.HOLD_LOST),
        ("sidecar", Outcome.CALLER_GONE, Reason.EXPIRED),
    ],
)
def test_expiry_says_whether_a_hold_was_lost(holder: str | None, outcome: Outcome | None, reason: Reason) -> None:
    attachment = lifecycle.patched(new(holder=holder, ttl=5), StatusPatch(outcome=outcome), 101.0)
    assert lifecycle.deadline(attachment, 50) == 105
    status = lifecycle.expired(attachment, 105).status
    assert (status.state, status.reason) == (State.ERROR, reason)
    assert "5 s" in (status.message or "")


def test_deadlines_of_the_finished_and_the_unfinished() -> None:
    assert lifecycle.deadline(new(), 50) is None
    assert lifecycle.deadline(at(State.ATTACHED), 50) is None
    assert lifecycle.deadline(at(State.ERROR), 50) == 151
    assert lifecycle.deadline(lifecycle.patched(at(State.ERROR), StatusPatch(phase=Phase.DETACHED), 120), 50) == 170
    detached = lifecycle.patched(at(State.ATTACHED), StatusPatch(phase=Phase.DETACHED), 110)
    assert lifecycle.deadline(detached, 50) == 160

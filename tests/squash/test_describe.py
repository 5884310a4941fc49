"""How long the caller of a held request still waits, in words."""

import pytest

from squash.cli.describe import attachment_lines, budget, patience, place
from squash.model import (
    AttachmentSpec,
    AttachmentStatus,
    DebugAttachment,
    HeldRequest,
    Metadata,
    Outcome,
    Phase,
    State,
)

BEGAN = 1_700_000_000.0


def held(budget: float | None = 15.0, **status: object) -> DebugAttachment:
    request = HeldRequest(method="POST", path="/orders", budget=budget)
    given = {"times": {"none": BEGAN}} | status
    return DebugAttachment(
        metadata=Metadata(name="held-1"),
        spec=AttachmentSpec(attachment={"pod": "pricing-1"}, held=request),
        status=AttachmentStatus(**given),  # type: ignore[arg-type] # one test names what it wants
    )


def test_the_callers_deadline_counts_from_when_it_was_held() -> None:
    assert budget(held(), BEGAN + 5) == 10.0
    assert patience(held(), BEGAN + 5.4) == "10 s left before the caller gives up"
    assert patience(held(), BEGAN + 17) == "the caller gave up 2 s ago, by its own deadline"


def test_it_goes_on_after_the_hold_while_somebody_debugs() -> None:
    attached = held(state=State.ATTACHED, phase=Phase.READY, outcome=Outcome.ATTACHED)
    assert budget(attached, BEGAN + 5) == 10.0


@pytest.mark.parametrize(
    "attachment",
    [
        held(budget=None),
        held(times=None),
        held(state=State.ERROR),
        held(state=State.ATTACHED, phase=Phase.DETACHED),
        held(outcome=Outcome.CALLER_GONE),
        DebugAttachment(spec=AttachmentSpec(attachment={})),
    ],
)
def test_nobody_waits_or_says_for_how_long(attachment: DebugAttachment) -> None:
    assert budget(attachment, BEGAN) is None
    assert patience(attachment, BEGAN) == ""


def test_where_it_is_said() -> None:
    assert place(held()).endswith("held: POST /orders; its caller gives up after 15 s")
    assert any(line.startswith("pause budget      the caller gave up ") for line in attachment_lines(held(1e-3)))

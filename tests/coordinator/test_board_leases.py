"""Leases on the board: what ends when nobody renews it."""

from typing import Any

import pytest

from coordinator.board import Board
from coordinator.decision import AttachmentChange, RequestChange
from squash.model import AttachmentSpec, DebugAttachment, Phase, State
from squash.reasons import Reason
from tests.coordinator.boards import board, do, marked, patch, refusal, wish


def test_a_lease_that_is_not_renewed_ends_the_wait() -> None:
    on = board()
    wish(on, lease=30.0)
    assert on.next_deadline() == 30
    do(on, on.renew_request("made-1", 20))
    assert (on.next_deadline(), on.pending) == (50, 1)
    do(on, on.expire(50))
    assert (on.requests, on.pending) == ({}, 0)


def test_a_renewed_request_keeps_its_place_and_its_time_to_live() -> None:
    on = board()
    first = wish(on, lease=30.0)
    wish(on)
    do(on, on.renew_request(first.name, 10))
    do(on, on.renew_request(first.name, 90))
    assert on.next_deadline() == 100
    assert marked(on, now=91).spec.debug_request == first.name


def test_a_lease_that_runs_out_lets_go_what_is_held() -> None:
    on = board()
    wish(on, lease=30.0)
    held = marked(on, holder="sidecar", now=10)
    patch(on, held.name, state=State.ATTACHING)
    assert on.next_deadline() == 30
    do(on, on.expire(30))
    status = on.attachment(held.name).status
    assert (status.state, status.reason) == (State.ERROR, Reason.RELEASED)
    assert "was not renewed" in (status.message or "")
    assert not on.requests


@pytest.mark.parametrize("end", [State.ATTACHED, State.ERROR])
def test_a_lease_is_over_when_the_hold_may_end(end: State) -> None:
    on = board()
    request = wish(on, lease=30.0)
    held = marked(on, now=10)
    patch(on, held.name, state=end, now=20)
    do(on, on.renew_request(request.name, 25))
    do(on, on.expire(60))
    assert on.attachment(held.name).status.state is end
    assert request.name in on.requests
    loaded = board()
    loaded.apply(RequestChange(name, None, each) for name, each in on.requests.items())
    loaded.apply(AttachmentChange(name, None, each) for name, each in on.attachments.items())
    do(loaded, loaded.expire(60))
    assert request.name in loaded.requests


def test_leases_begin_anew_after_an_absence() -> None:
    on = board()
    wish(on, lease=30.0, ttl=5_000.0)
    wish(on, ttl=5_000.0)
    do(on, on.resume(1_000))
    do(on, on.expire(1_029))
    assert on.pending == 2
    do(on, on.expire(1_030))
    assert on.pending == 1


def leased(on: Board, ttl: float | None = None) -> str:
    spec = AttachmentSpec(attachment={"pod": "p"}, lease=30.0, ttl=ttl)
    made: DebugAttachment = do(on, on.create_attachment(DebugAttachment(spec=spec), 0))
    return made.name


@pytest.mark.parametrize("step", [{}, {"state": State.ATTACHING}, {"state": State.ATTACHED, "phase": Phase.LISTENING}])
def test_a_leased_attachment_that_is_not_renewed_ends(step: dict[str, Any]) -> None:
    on = board()
    name = leased(on)
    if step:
        patch(on, name, now=5, **step)
    assert on.next_deadline() == 30
    do(on, on.renew_attachment(name, 20))
    assert on.next_deadline() == 50
    do(on, on.expire(49))
    assert on.attachment(name).status.state is step.get("state", State.NONE)
    do(on, on.expire(50))
    status = on.attachment(name).status
    assert (status.state, status.reason) == (State.ERROR, Reason.EXPIRED)
    assert "whoever made it is gone: it was not renewed within 30 s" in (status.message or "")


def test_a_leased_attachment_is_its_clients_once_there_was_one() -> None:
    on = board()
    name = leased(on)
    patch(on, name, now=5, state=State.ATTACHED, phase=Phase.LISTENING)
    patch(on, name, now=6, phase=Phase.CLIENT_CONNECTED)
    assert on.next_deadline() is None
    do(on, on.resume(1_000))
    do(on, on.expire(2_000))
    assert on.attachment(name).status.state is State.ATTACHED


def test_of_a_lease_and_a_time_to_live_the_shorter_one_counts() -> None:
    on = board()
    name = leased(on, ttl=20.0)
    do(on, on.renew_attachment(name, 15))
    assert on.next_deadline() == 20
    do(on, on.expire(20))
    assert "after 20 s" in (on.attachment(name).status.message or "")


def test_leases_of_attachments_begin_anew_after_an_absence() -> None:
    on = board()
    name = leased(on)
    do(on, on.resume(1_000))
    assert on.next_deadline() == 1_030
    do(on, on.expire(1_030))
    over = on.attachment(name)
    do(on, on.resume(1_031))
    assert on.attachment(name) == over


def test_renewing_what_is_gone_is_refused() -> None:
    with refusal(Reason.NOT_FOUND, 404):
        board().renew_request("gone", 0)
    with refusal(Reason.NOT_FOUND, 404):
        board().renew_attachment("gone", 0)

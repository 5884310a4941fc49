"""The board: single rules."""

from typing import Any

import pytest

from coordinator.board import Board
from coordinator.decision import Decision
from squash.errors import ApiError
from squash.images import keys
from squash.model import (
    AttachmentPatch,
    DebugAttachment,
    DebugRequest,
    Failure,
    HeldRequest,
    HoldUntil,
    Metadata,
    RequestSpec,
    State,
    Trigger,
)
from squash.reasons import Reason
from tests.coordinator.boards import board, do, marked, patch, refusal, wish


def test_who_asks_and_on_what_terms_goes_over_to_the_attachment() -> None:
    on = board()
    wish(on, owner="ann@desk", read_only=True, allow_terminate=True)
    spec = marked(on, owner="sidecar").spec
    assert (spec.owner, spec.read_only, spec.allow_terminate) == ("ann@desk", True, True)
    wish(on)
    spec = marked(on, owner="sidecar", read_only=True, allow_terminate=True).spec
    assert (spec.owner, spec.read_only, spec.allow_terminate) == ("sidecar", True, None)


def failed(on: Board, **given: Any) -> DebugAttachment:
    held = HeldRequest(method=given.pop("method", "GET"), path=given.pop("path", "/"))
    failure = Failure(status=given.pop("status", 500), duration=given.pop("duration", 0.0))
    return marked(on, trigger=given.pop("trigger", Trigger.FAILURE), held=held, failure=failure, **given)


def test_triggers_never_mix() -> None:
    on = board()
    by_mark = wish(on)
    with refusal(Reason.NO_PENDING_REQUEST, 404):
        failed(on)
    by_failure = wish(on, trigger=Trigger.FAILURE)
    by_latency = wish(on, trigger=Trigger.LATENCY, threshold=2.0)
    explicit = wish(on, trigger=Trigger.MARK)
    assert failed(on).spec.debug_request == by_failure.name
    with refusal(Reason.NO_PENDING_REQUEST, 404):
        failed(on)
    assert marked(on).spec.debug_request == by_mark.name
    assert marked(on, trigger=Trigger.MARK).spec.debug_request == explicit.name
    with refusal(Reason.NO_PENDING_REQUEST, 404):
        marked(on)
    with refusal(Reason.NO_PENDING_REQUEST, 404):
        failed(on, trigger=Trigger.LATENCY, duration=1.9)
    assert failed(on, trigger=Trigger.LATENCY, duration=2.0).spec.debug_request == by_latency.name


def test_oldest_whose_terms_fit_takes_a_failure() -> None:
    on = board()
    wish(on, trigger=Trigger.FAILURE, statuses=[503])
    wish(on, trigger=Trigger.FAILURE, methods=["POST"])
    third = wish(on, trigger=Trigger.FAILURE, path="/cart/*")
    wish(on, trigger=Trigger.FAILURE)
    assert failed(on, path="/cart/7").spec.debug_request == third.name
    with refusal(Reason.NO_PENDING_REQUEST, 404):
        failed(on, status=499)


def test_wishes_are_those_that_a_container_can_meet() -> None:
    on = board()
    wish(on)
    first = wish(on, trigger=Trigger.FAILURE, ttl=10)
    other = wish(on, trigger=Trigger.FAILURE, namespace="far")
    wish(on, "other", trigger=Trigger.FAILURE)
    slow = wish(on, trigger=Trigger.LATENCY)
    assert [one.name for one in on.wishes(keys("i"), "near", 0)] == [first.name, slow.name]
    assert [one.name for one in on.wishes(keys("i"), "far", 0)] == [first.name, other.name, slow.name]
    assert [one.name for one in on.wishes(keys("i"), None, 20)] == [slow.name]
    failed(on)
    assert [one.name for one in on.wishes(keys("i"), None, 0)] == [slow.name]


def test_images_are_compared_by_what_they_mean() -> None:
    on = board()
    first, second = wish(on, "shop"), wish(on, "docker.io/library/shop:latest")
    assert marked(on, "docker.io/library/shop:latest").spec.debug_request == first.name
    assert marked(on, "shop:latest").spec.debug_request == second.name


def test_a_container_is_found_by_every_name_of_its_image() -> None:
    on, digest = board(), "sha256:" + "ab" * 32
    by_digest, by_tag, by_id = wish(on, f"shop@{digest}"), wish(on, "shop:1.2"), wish(on, digest)
    names = [f"shop@{digest}", digest]
    found = [marked(on, "registry:5000/shop:9", images=names).spec.debug_request for _ in range(2)]
    assert found == [by_digest.name, by_id.name]
    with refusal(Reason.NO_PENDING_REQUEST, 404):
        marked(on, "registry:5000/shop:9", images=names)
    assert marked(on, "shop:1.2", images=names).spec.debug_request == by_tag.name


def test_another_tag_is_told_of() -> None:
    on = board()
    wish(on, "shop:1.2")
    wish(on, "docker.io/library/shop:1.4", now=1)
    wish(on, "other:1.2")
    wish(on, "shop:0.1", ttl=1)
    with pytest.raises(ApiError) as refused:
        marked(on, "shop:1.3", now=2)
    expected = "no debug request waits for image 'shop:1.3', which the container runs; requests are pending for "
    assert refused.value.message == expected + "shop:1.2, docker.io/library/shop:1.4"
    with pytest.raises(ApiError) as refused:
        marked(on, "stock:1.3", now=2)
    assert refused.value.message == "no debug request waits for image 'stock:1.3'"


def test_terms_without_their_trigger_are_refused() -> None:
    with refusal(Reason.INVALID, 422):
        wish(board(), statuses=[500])


def test_a_request_for_a_namespace_is_for_that_one_alone() -> None:
    on = board()
    here = wish(on, namespace="here")
    there = {"pod": "p", "namespace": "there"}
    with pytest.raises(ApiError, match=r"process any, namespace there; those that .* process any, namespace here"):
        marked(on, attachment=there)
    everywhere = wish(on)
    assert marked(on, attachment=there).spec.debug_request == everywhere.name
    with pytest.raises(ApiError):
        marked(on)
    assert marked(on, attachment={"pod": "p", "namespace": "here"}).spec.debug_request == here.name


def test_detaching_keeps_the_object_whatever_its_state() -> None:
    on = board()
    wish(on)
    held = marked(on)
    assert do(on, on.detach_attachment(held.name, 1)).status.reason is Reason.RELEASED
    wish(on)
    done = marked(on, name="done")
    patch(on, done.name, state=State.ATTACHED)
    assert do(on, on.detach_attachment(done.name, 2)).status.reason is Reason.ENDED
    assert not on.detach_attachment(done.name, 3).changes
    with refusal(Reason.NOT_FOUND, 404):
        on.detach_attachment("gone", 0)


def test_matched_attachment_inherits_from_the_request() -> None:
    on = board()
    request = wish(on, debugger="gdb", process_name="app", hold_until=HoldUntil.READY)
    spec = marked(on).spec
    assert (spec.debugger, spec.process_name, spec.hold_until) == ("gdb", "app", HoldUntil.READY)
    assert spec.debug_request == request.name
    assert on.request(request.name).status.debug_attachment_ref == "made-2"


def test_what_the_request_leaves_open_the_attachment_keeps() -> None:
    on = board()
    wish(on)
    spec = marked(on, debugger="gdb", process_name="app", hold_until=HoldUntil.READY).spec
    assert (spec.debugger, spec.process_name, spec.hold_until) == ("gdb", "app", HoldUntil.READY)


def test_oldest_matches_first_and_each_once() -> None:
    on = board()
    names = [wish(on).name for _ in range(3)]
    assert [marked(on).spec.debug_request for _ in range(3)] == names
    with refusal(Reason.NO_PENDING_REQUEST, 404):
        marked(on)


def test_refusal_says_what_those_that_wait_ask_for() -> None:
    on = board()
    wish(on, debugger="dlv", process_name="app")
    with pytest.raises(ApiError, match="debugger dlv, process app") as caught:
        marked(on, debugger="gdb")
    assert caught.value.reason is Reason.NO_PENDING_REQUEST


def test_expired_request_does_not_match_even_before_it_is_removed() -> None:
    on = board()
    wish(on, ttl=10)
    young = wish(on, ttl=20)
    assert marked(on, now=10).spec.debug_request == young.name
    with refusal(Reason.NO_PENDING_REQUEST, 404):
        wish(on, image="j", ttl=1)
        marked(on, image="j", now=1)


def test_sender_cannot_write_what_is_the_coordinators() -> None:
    on = board()
    attachment = marked(on, match_request=None, debug_request="forged")
    assert attachment.spec.debug_request is None
    assert attachment.status.state is State.NONE


def test_names_are_taken_once() -> None:
    on = board()
    marked(on, name="a", match_request=None)
    do(on, on.create_request(DebugRequest(metadata=Metadata(name="a"), spec=RequestSpec(image="i", debugger="")), 0))
    with refusal(Reason.NAME_TAKEN, 409):
        marked(on, name="a", match_request=None)
    with refusal(Reason.NAME_TAKEN, 409):
        on.create_request(DebugRequest(metadata=Metadata(name="a"), spec=RequestSpec(image="i", debugger="")), 0)


def test_release_before_and_after_the_request_has_gone() -> None:
    on = board()
    held, gone = marked(on, match_request=None).name, marked(on, match_request=None).name
    patch(on, gone, state=State.ATTACHED)
    released = do(on, on.release_attachment(held, 1))
    assert released.status.reason is Reason.RELEASED
    assert on.release_attachment(held, 2) == Decision((), released)
    with pytest.raises(ApiError, match="gone on already"):
        on.release_attachment(gone, 1)
    with refusal(Reason.NOT_FOUND, 404):
        on.release_attachment("nobody", 1)


def test_deleted_request_lets_go_what_is_held_for_it() -> None:
    on = board()
    requests = [wish(on).name for _ in range(2)]
    held, attached = marked(on).name, marked(on).name
    patch(on, attached, state=State.ATTACHED)
    for request in requests:
        do(on, on.delete_request(request, 1))
    assert on.attachment(held).status.reason is Reason.RELEASED
    assert on.attachment(attached).status.state is State.ATTACHED
    assert not on.requests
    assert on.delete_request("nobody", 1).changes == ()


def test_deleted_attachment_takes_its_request_along() -> None:
    on = board()
    wish(on)
    do(on, on.delete_attachment(marked(on).name))
    assert not on.attachments
    assert not on.requests
    assert on.delete_attachment("nobody").changes == ()


def test_patch_names_its_object_or_none() -> None:
    on = board()
    name = marked(on, match_request=None).name
    with refusal(Reason.NAME_MISMATCH, 400):
        on.patch_attachment(name, AttachmentPatch(metadata=Metadata(name="other")), 0)
    with refusal(Reason.NOT_FOUND, 404):
        on.patch_attachment("nobody", AttachmentPatch(), 0)
    assert on.patch_attachment(name, AttachmentPatch(metadata=Metadata(name=name)), 0).changes == ()


def test_time_ends_what_nobody_ended() -> None:
    on = board()
    wish(on)
    name = marked(on, ttl=10).name
    waiting = wish(on, ttl=5).name
    assert on.next_deadline() == 5
    do(on, on.expire(5))
    assert waiting not in on.requests
    do(on, on.expire(10))
    assert on.attachment(name).status.reason is Reason.EXPIRED
    assert on.next_deadline() == 60
    do(on, on.expire(59.9))
    assert name in on.attachments
    do(on, on.expire(60))
    assert not on.attachments
    assert not on.requests
    assert on.next_deadline() is None


def test_much_expires_in_parts() -> None:
    on = board()
    for _ in range(1_500):
        wish(on, ttl=1)
    rounds = 0
    while on.requests:
        do(on, on.expire(1))
        rounds += 1
    assert rounds == 2

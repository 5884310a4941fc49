"""What is counted, for whom, and when it is too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from coordinator.decision import AttachmentChange, RequestChange
from coordinator.limits import Kind, Limits, Usage
from squash.errors import ApiError
from squash.model import AttachmentSpec, AttachmentStatus, DebugAttachment, DebugRequest, Phase, RequestSpec, State
from squash.reasons import Reason
from squash.settings import CoordinatorSettings

SPEC = AttachmentSpec(attachment={}, image="i", owner="ann")


def usage(owner: int = 2, image: int = 3) -> Usage:
    return Usage(Limits(owner=dict.fromkeys(Kind, owner), image=dict.fromkeys(Kind, image)))


def attachment(state: State = State.NONE, owner: str | None = "ann") -> DebugAttachment:
    return DebugAttachment(spec=replace(SPEC, owner=owner), status=AttachmentStatus(state=state))


def request(owner: str | None = "ann", bound: str | None = None) -> DebugRequest:
    found = DebugRequest(spec=RequestSpec(image="i", debugger="", owner=owner))
    return replace(found, status=replace(found.status, debug_attachment_ref=bound))


def refusal(usage: Usage, kind: Kind, owner: str | None = "ann", image: str = "i") -> str:
    with pytest.raises(ApiError) as error:
        usage.check(kind, owner, image)
    assert (error.value.code, error.value.reason) == (429, Reason.LIMIT_REACHED)
    return error.value.message


def test_settings_become_limits() -> None:
    limits = Limits.of(CoordinatorSettings(max_streams_per_image=7))
    assert limits.image[Kind.STREAMS] == 7
    assert limits.owner[Kind.REQUESTS] == CoordinatorSettings().max_requests_per_owner


def test_owner_and_image_have_limits_of_their_own() -> None:
    some = usage()
    some.apply([RequestChange("a", None, request()), RequestChange("b", None, request())])
    assert refusal(some, Kind.REQUESTS) == (
        "owner 'ann' has 2 waiting debug requests, as many as may be (max_requests_per_owner = 2)"
    )
    some.check(Kind.REQUESTS, "bob", "i")
    some.check(Kind.REQUESTS, None, "i")
    some.check(Kind.ATTACHMENTS, "ann", "i")
    some.apply([RequestChange("c", None, request(owner=None))])
    assert "(max_requests_per_image = 3)" in refusal(some, Kind.REQUESTS, "bob")
    some.check(Kind.REQUESTS, "bob", "j")


def test_what_is_matched_no_longer_waits() -> None:
    some = usage(owner=1)
    some.apply([RequestChange("a", None, request())])
    refusal(some, Kind.REQUESTS)
    some.apply([RequestChange("a", request(), request(bound="x"))])
    some.check_request(request().spec)
    some.apply([RequestChange("a", request(bound="x"), None)])
    some.check_request(request().spec)


def test_what_is_in_error_counts_no_more() -> None:
    some = usage(owner=1)
    some.apply([AttachmentChange("a", None, attachment())])
    some.apply([AttachmentChange("a", attachment(), attachment(State.ATTACHED))])
    refusal(some, Kind.ATTACHMENTS)
    some.apply([AttachmentChange("a", attachment(State.ATTACHED), attachment(State.ERROR))])
    some.check_attachment(SPEC)
    some.apply([AttachmentChange("a", attachment(State.ERROR), None)])
    some.check_attachment(SPEC)


def test_what_is_detached_counts_no_more() -> None:
    some, there = usage(owner=1), attachment(State.ATTACHED)
    gone = replace(there, status=replace(there.status, phase=Phase.DETACHED))
    some.apply([AttachmentChange("a", None, there)])
    refusal(some, Kind.ATTACHMENTS)
    some.apply([AttachmentChange("a", there, gone)])
    some.check_attachment(SPEC)
    some.apply([AttachmentChange("a", gone, None), AttachmentChange("b", None, there)])
    refusal(some, Kind.ATTACHMENTS)


def test_streams_count_while_they_are_open() -> None:
    some = usage(owner=1)
    with some.stream(SPEC, "ann"):
        with pytest.raises(ApiError), some.stream(SPEC, "ann"):
            raise AssertionError("too many")
        with some.stream(SPEC, "bob"), some.stream(SPEC, ""):
            assert "max_streams_per_image" in refusal(some, Kind.STREAMS, "eve")
    with some.stream(SPEC, "ann"):
        pass


@given(st.lists(st.sampled_from(State)))
def test_nothing_is_left_over(states: list[State]) -> None:
    some = usage(owner=1, image=1)
    before = None
    for state in states:
        after = attachment(state)
        some.apply([AttachmentChange("a", before, after)])
        before = after
    if before:
        some.apply([AttachmentChange("a", before, None)])
    some.check_attachment(SPEC)

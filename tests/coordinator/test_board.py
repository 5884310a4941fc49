"""The board: single rules, and a state machine that tries everything in any order."""

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordinator.board import Board, Policy
from coordinator.decision import AttachmentChange, Change, Decision, RequestChange
from squash.errors import ApiError
from squash.images import keys
from squash.model import (
    AttachmentPatch,
    AttachmentSpec,
    DebugAttachment,
    DebugRequest,
    Failure,
    HeldRequest,
    HoldUntil,
    Metadata,
    Outcome,
    Phase,
    RequestSpec,
    State,
    StatusPatch,
    Trigger,
)
from squash.reasons import Reason

POLICY = Policy(request_ttl=100, retention=50)


def board() -> Board:
    numbers = count(1)
    return Board(POLICY, lambda: f"made-{next(numbers)}")


def do(on: Board, decision: Decision[Any]) -> Any:
    on.apply(decision.changes)
    return decision.result


def wish(on: Board, image: str = "i", debugger: str = "", now: float = 0.0, **spec: Any) -> DebugRequest:
    wanted = DebugRequest(spec=RequestSpec(image=image, debugger=debugger, **spec))
    result: DebugRequest = do(on, on.create_request(wanted, now))
    return result


def marked(on: Board, image: str = "i", now: float = 0.0, name: str | None = None, **spec: Any) -> DebugAttachment:
    spec = dict[str, Any](match_request=True, attachment={"pod": "p"}) | spec
    wanted = DebugAttachment(metadata=Metadata(name=name), spec=AttachmentSpec(image=image, **spec))
    result: DebugAttachment = do(on, on.create_attachment(wanted, now))
    return result


def patch(on: Board, name: str, now: float = 0.0, **status: Any) -> DebugAttachment:
    result: DebugAttachment = do(on, on.patch_attachment(name, AttachmentPatch(status=StatusPatch(**status)), now))
    return result


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


def refusal(reason: Reason, code: int) -> Any:
    return pytest.raises(ApiError, check=lambda error: (error.code, error.reason) == (code, reason))


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


IMAGES = st.sampled_from(["i", "j"])
OPEN_OR = st.sampled_from(["", "x", "y"])
TTL = st.none() | st.integers(1, 40)


class AnyOrder(RuleBasedStateMachine):
    """Everything that may come, in any order; a store that sometimes fails, and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.board = board()
        self.now = 0.0
        self.kept: dict[tuple[type, str], Change] = {}
        self.refusals: set[tuple[int, Reason]] = set()
        self.bound: dict[str, str] = {}
        self.ranks: dict[str, tuple[int, int]] = {}

    def keep(self, decision: Decision[Any]) -> None:
        for change in decision.changes:
            key = type(change), change.name
            if change.after is None:
                self.kept.pop(key)
            elif isinstance(change, AttachmentChange):
                self.kept[key] = AttachmentChange(change.name, None, change.after)
            else:
                self.kept[key] = RequestChange(change.name, None, change.after)
        self.board.apply(decision.changes)

    def pick(self, names: Any, number: int) -> str:
        known = sorted(names)
        return known[number % len(known)] if known else "nobody"

    @rule(image=IMAGES, debugger=OPEN_OR, process=OPEN_OR, ttl=TTL, kept=st.booleans())
    def ask(self, image: str, debugger: str, process: str, ttl: float | None, kept: bool) -> None:
        spec = RequestSpec(image=image, debugger=debugger, process_name=process, ttl=ttl)
        decision = self.board.create_request(DebugRequest(spec=spec), self.now)
        if kept:
            self.keep(decision)

    @rule(image=IMAGES, debugger=OPEN_OR, process=OPEN_OR, ttl=TTL, match=st.booleans(), kept=st.booleans())
    def arrive(self, image: str, debugger: str, process: str, ttl: float | None, match: bool, kept: bool) -> None:
        spec = AttachmentSpec(
            attachment={}, image=image, debugger=debugger, process_name=process, ttl=ttl, match_request=match, node="n"
        )
        expected = self.expected(spec) if match else None
        if match and expected is None:
            with refusal(Reason.NO_PENDING_REQUEST, 404):
                self.board.create_attachment(DebugAttachment(spec=spec), self.now)
            return
        decision = self.board.create_attachment(DebugAttachment(spec=spec), self.now)
        assert decision.result.spec.debug_request == expected
        if kept:
            self.keep(decision)
            if expected:
                assert expected not in self.bound, "two attachments on one request"
                self.bound[expected] = decision.result.name

    def expected(self, spec: AttachmentSpec) -> str | None:
        """The oldest request that fits, by a plain look at all of them."""
        for name, request in self.board.requests.items():
            wanted = request.spec
            if (
                not request.status.debug_attachment_ref
                and (request.status.created or 0) + (wanted.ttl or POLICY.request_ttl) > self.now
                and wanted.image == spec.image
                and (not wanted.debugger or not spec.debugger or wanted.debugger == spec.debugger)
                and (not wanted.process_name or not spec.process_name or wanted.process_name == spec.process_name)
            ):
                return name
        return None

    @rule(
        number=st.integers(0, 9),
        state=st.none() | st.sampled_from(State),
        phase=st.none() | st.sampled_from(Phase),
        outcome=st.none() | st.sampled_from(Outcome),
        kept=st.booleans(),
    )
    def report(
        self, number: int, state: State | None, phase: Phase | None, outcome: Outcome | None, kept: bool
    ) -> None:
        name = self.pick(self.board.attachments, number)
        wanted = AttachmentPatch(status=StatusPatch(state=state, phase=phase, outcome=outcome))
        decision = self.unless_refused(lambda: self.board.patch_attachment(name, wanted, self.now))
        if kept:
            self.keep(decision)

    @rule(number=st.integers(0, 9), what=st.sampled_from(["release", "delete", "withdraw"]), kept=st.booleans())
    def end(self, number: int, what: str, kept: bool) -> None:
        name = self.pick(self.board.attachments, number)
        request = self.pick(self.board.requests, number)
        decision: Decision[Any]
        if what == "release":
            decision = self.unless_refused(lambda: self.board.release_attachment(name, self.now))
        elif what == "delete":
            decision = self.board.delete_attachment(name)
        else:
            decision = self.board.delete_request(request, self.now)
        if kept:
            self.keep(decision)

    def unless_refused(self, decide: Callable[[], Decision[Any]]) -> Decision[Any]:
        try:
            return decide()
        except ApiError as error:
            self.refusals.add((error.code, error.reason))
            return Decision((), None)

    @invariant()
    def refusals_are_of_the_known_kinds(self) -> None:
        assert self.refusals <= {(404, Reason.NOT_FOUND), (409, Reason.ILLEGAL_STEP)}

    @rule(seconds=st.integers(1, 30), kept=st.booleans())
    def pass_time(self, seconds: int, kept: bool) -> None:
        self.now += seconds
        decision = self.board.expire(self.now)
        if kept:
            self.keep(decision)
            deadline = self.board.next_deadline()
            assert deadline is None or deadline > self.now

    @rule()
    def restart(self) -> None:
        before, names = self.board, self.board._new_name
        self.board = Board(POLICY, names)
        self.board.apply(self.kept.values())
        assert self.board.next_deadline() == before.next_deadline()

    @invariant()
    def board_is_what_was_kept(self) -> None:
        attachments = {name: kept.after for (kind, name), kept in self.kept.items() if kind is AttachmentChange}
        requests = {name: kept.after for (kind, name), kept in self.kept.items() if kind is RequestChange}
        assert self.board.attachments == attachments
        assert self.board.requests == requests
        assert self.board.pending == sum(not one.status.debug_attachment_ref for one in self.board.requests.values())
        assert {one.name for one in self.board.of_node("n")} == set(attachments)

    @invariant()
    def all_move_forward_only(self) -> None:
        for name, attachment in self.board.attachments.items():
            rank = attachment.status.state.rank, (attachment.status.phase or Phase.LOCATED).rank
            before = self.ranks.get(name, (0, 0))
            assert rank[0] >= before[0]
            assert rank[1] >= before[1]
            self.ranks[name] = rank


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)

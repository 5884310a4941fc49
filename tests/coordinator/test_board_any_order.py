"""The board as a state machine: everything is tried in any order."""

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coordinator.board import Board
from coordinator.decision import AttachmentChange, Change, Decision, RequestChange
from squash.errors import ApiError
from squash.model import (
    AttachmentPatch,
    AttachmentSpec,
    DebugAttachment,
    DebugRequest,
    Outcome,
    Phase,
    RequestSpec,
    State,
    StatusPatch,
)
from squash.reasons import Reason
from tests.coordinator.boards import POLICY, board, refusal

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

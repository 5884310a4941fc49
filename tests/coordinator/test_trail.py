"""What the audit trail makes of changes, and what the API tells of it."""

import time
from uuid import uuid4

import pytest
from msgspec.structs import replace

from coordinator import lifecycle, trail
from coordinator.decision import AttachmentChange, Change, RequestChange
from coordinator.trail import COORDINATOR, UNKNOWN, Wanted
from squash.model import (
    Action,
    AttachmentSpec,
    AuditEntry,
    DebugAttachment,
    DebugRequest,
    Metadata,
    Outcome,
    Phase,
    RequestSpec,
    RequestStatus,
    State,
    StatusPatch,
)
from squash.reasons import Reason
from tests.coordinator.program import API, Coordinator

WISH = DebugRequest(metadata=Metadata(name="wish"), spec=RequestSpec(image="i", debugger="", owner="ann@desk"))
SPEC = AttachmentSpec(attachment={}, image="i", holder="sidecar-1", debug_request="wish")
HELD = lifecycle.created("held", SPEC, 1.0)


def told(change: Change | tuple[Change, ...], actor: str = UNKNOWN) -> list[tuple[str, Action, str | None]]:
    changes = change if isinstance(change[0], tuple) else (change,)
    return [(entry.actor, entry.action, entry.detail) for entry in trail.entries(changes, actor, 5.0)]


def step(before: DebugAttachment, **fields: object) -> tuple[AttachmentChange, DebugAttachment]:
    after = lifecycle.patched(before, StatusPatch(**fields), 2.0)  # type: ignore[arg-type]
    return AttachmentChange("held", before, after), after


def test_a_debug_request() -> None:
    assert told(RequestChange("wish", None, WISH)) == [("ann@desk", Action.REQUEST_CREATED, None)]
    assert told(RequestChange("wish", WISH, None), "bob") == [("bob", Action.REQUEST_DELETED, None)]
    assert told(RequestChange("wish", WISH, None), COORDINATOR) == [(COORDINATOR, Action.REQUEST_EXPIRED, None)]


def test_a_debugging_from_match_to_detach() -> None:
    assert told(AttachmentChange("held", None, HELD)) == [("sidecar-1", Action.MATCHED, None)]
    change, claimed = step(HELD, state=State.ATTACHING, agent="agent-1")
    assert told(change) == [("agent-1", Action.CLAIMED, None)]
    change, attached = step(claimed, state=State.ATTACHED, debugger="gdb")
    assert told(change) == [("agent-1", Action.ATTACHED, "gdb")]
    change, let_go = step(attached, outcome=Outcome.ATTACHED)
    assert told(change) == [("sidecar-1", Action.LET_GO, "attached")]
    change, out = step(let_go, phase=Phase.DETACHED, reason=Reason.CLIENT_GONE)
    assert told(change) == [("agent-1", Action.DETACHED, "client_gone")]
    assert told(AttachmentChange("held", out, None), "ann") == [("ann", Action.DELETED, None)]
    assert told(AttachmentChange("held", out, None), COORDINATOR) == []


def test_what_was_proved_counts_more_than_what_is_said() -> None:
    proved = lifecycle.created("held", replace(SPEC, creator="shop"), 1.0)
    assert told(AttachmentChange("held", None, proved), "shop") == [("shop", Action.MATCHED, None)]
    change, _ = step(HELD, state=State.ATTACHING, agent="agent-1")
    assert told(change, "agent-7") == [("agent-7", Action.CLAIMED, "agent-1")]


def test_who_let_it_go() -> None:
    released = AttachmentChange("held", HELD, lifecycle.released(HELD, 2.0, "by hand"))
    assert told(released, "ann") == [("ann", Action.RELEASED, "released")]
    lost = AttachmentChange("held", HELD, lifecycle.expired(HELD, 2.0)) if HELD.spec.ttl else None
    assert lost is None
    change, _ = step(HELD, state=State.ERROR, reason=Reason.HOLD_TIMEOUT, outcome=Outcome.TIMEOUT)
    assert told(change) == [
        ("sidecar-1", Action.FAILED, "hold_timeout"),
        ("sidecar-1", Action.LET_GO, "timeout"),
    ]


def test_the_removal_of_an_attachment_tells_of_its_request_too() -> None:
    used = DebugRequest(metadata=WISH.metadata, spec=WISH.spec, status=RequestStatus(debug_attachment_ref="held"))
    both = (AttachmentChange("held", HELD, None), RequestChange("wish", used, None))
    assert told(both, "ann") == [("ann", Action.DELETED, None)]


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Wanted(), True),
        (Wanted(attachment="held", actor="ann", action=Action.DELETED, since=5.0), True),
        (Wanted(attachment="other"), False),
        (Wanted(actor="bob"), False),
        (Wanted(action=Action.MATCHED), False),
        (Wanted(since=5.1), False),
    ],
)
def test_filters(wanted: Wanted, fits: bool) -> None:
    assert wanted.has(AuditEntry(time=5.0, actor="ann", action=Action.DELETED, attachment="held")) is fits


def test_the_whole_story_by_the_api(shared: Coordinator, pod: str, image: str) -> None:
    wish = shared.wish(image, owner="ann@desk")
    name = shared.attached(pod, match=True, holder="sidecar-1")
    shared.patch(name, state="attaching", agent="agent-1")
    shared.patch(name, state="attached", outcome="attached")
    seen = {"time": time.time() - 1, "actor": "ann@desk", "action": "evaluated", "attachment": name, "agent": "agent-1"}
    assert shared.http.post(f"{API}/audit", json=[seen]).status_code == 200
    headers = {"x-squash-actor": "bob@desk"}
    shared.http.delete(f"{API}/debugattachment/{name}", headers=headers)
    story = shared.http.get(f"{API}/audit", params={"attachment": name}).json()
    actions = [entry["action"] for entry in story]
    assert actions == ["matched", "claimed", "attached", "let_go", "evaluated", "deleted"]
    assert seen in story
    assert (story[-1]["actor"], story[-1]["image"]) == ("bob@desk", image)
    newest = shared.http.get(f"{API}/audit", params={"attachment": name, "limit": 2}).json()
    assert [entry["action"] for entry in newest] == ["evaluated", "deleted"]
    mine = shared.http.get(f"{API}/audit", params={"actor": "ann@desk", "action": "request_created"}).json()
    assert wish in [entry["request"] for entry in mine]


@pytest.mark.parametrize(
    "params", [{"action": "danced"}, {"since": "yesterday"}, {"limit": "0"}, {"limit": "-1"}, {"limit": "many"}]
)
def test_wrong_filters_are_refused(shared: Coordinator, params: dict[str, str]) -> None:
    answer = shared.http.get(f"{API}/audit", params=params)
    assert (answer.status_code, answer.json()["reason"]) == (422, "invalid")
    assert next(iter(params)) in answer.json()["message"]


def test_an_unknown_action_is_refused(shared: Coordinator) -> None:
    seen = [{"time": 1.0, "actor": "a", "action": "danced"}]
    assert shared.http.post(f"{API}/audit", json=seen).status_code == 422


def test_an_actor_nobody_can_print_is_unknown(shared: Coordinator) -> None:
    image = f"demo/{uuid4().hex}"
    body = {"spec": {"image": image, "debugger": ""}}
    made = shared.http.post(f"{API}/debugrequest", json=body, headers={"x-squash-actor": "a\tb"}).json()
    story = shared.http.get(f"{API}/audit", params={"action": "request_created"}).json()
    assert next(e for e in story if e["request"] == made["metadata"]["name"])["actor"] == "unknown"

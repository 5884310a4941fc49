"""The wire objects: what old clients send is understood, what they read is there."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from squash.model import (
    AttachmentPatch,
    AttachmentSpec,
    Changes,
    DebugAttachment,
    DebugRequest,
    Metadata,
    Phase,
    RequestSpec,
    State,
    StatusPatch,
)
from squash.reasons import Reason


def encoded(value: Any) -> Any:
    return json.loads(msgspec.json.encode(value))


def test_the_least_attachment() -> None:
    attachment = msgspec.json.decode(b'{"spec": {"attachment": {}}}', type=DebugAttachment)
    assert encoded(attachment) == {"spec": {"attachment": {}}, "status": {"state": "none"}}
    assert attachment.name == ""


def test_the_state_is_always_on_the_wire() -> None:
    attachment = DebugAttachment(spec=AttachmentSpec(attachment={"pod": "p"}))
    for state in State:
        shown = encoded(replace(attachment, status=replace(attachment.status, state=state)))
        assert shown["status"]["state"] == state.value


@pytest.mark.parametrize("field", [field for field in AttachmentSpec.__struct_fields__ if field != "attachment"])
def test_null_is_absent(field: str) -> None:
    body = json.dumps({"spec": {"attachment": {}, field: None}}).encode()
    assert msgspec.json.decode(body, type=DebugAttachment) == DebugAttachment(spec=AttachmentSpec(attachment={}))


def test_null_is_absent_in_a_patch() -> None:
    body = json.dumps({"status": dict.fromkeys(StatusPatch.__struct_fields__)}).encode()
    patch = msgspec.json.decode(body, type=AttachmentPatch)
    assert patch == AttachmentPatch()
    assert dict(patch.status.fields()) == {}


def test_a_patch_knows_what_it_sets() -> None:
    patch = StatusPatch(state=State.ERROR, reason=Reason.RELEASED, message="")
    assert dict(patch.fields()) == {"state": "error", "reason": "released", "message": ""}


def test_unknown_fields_are_dropped() -> None:
    spec = {"image": "i", "debugger": "d"}
    body = {"x": 1, "metadata": {"name": "a", "y": []}, "spec": spec | {"z": {}}, "status": {"w": 0}}
    request = msgspec.json.decode(json.dumps(body), type=DebugRequest)
    assert request == DebugRequest(metadata=Metadata(name="a"), spec=RequestSpec(image="i", debugger="d"))


def test_the_platform_keeps_whatever_it_was_given() -> None:
    given = {"pod": "p", "deep": {"a": [1, None, {"b": "ü"}]}, "": 0}
    assert encoded(DebugAttachment(spec=AttachmentSpec(attachment=given)))["spec"]["attachment"] == given


@pytest.mark.parametrize("name", ["a", "a-b.c", "0", "x" * 128, "5f3c"])
def test_names(name: str) -> None:
    assert msgspec.convert({"metadata": {"name": name}, "spec": {"attachment": {}}}, DebugAttachment).name == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "a b", "ü", "a\n", "\na", "x" * 129, ".", "a\x00"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"metadata\.name"):
        msgspec.convert({"metadata": {"name": name}, "spec": {"attachment": {}}}, DebugAttachment)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"image": "i"},
        {"debugger": "d"},
        {"image": "", "debugger": "d"},
        {"image": None, "debugger": "d"},
        {"image": "i" * 1025, "debugger": ""},
        {"image": "demo/x\n", "debugger": ""},
        {"image": "demo/\x1b[2J", "debugger": ""},
        {"image": "i", "debugger": "", "ttl": 0},
        {"image": "i", "debugger": "", "ttl": -1},
        {"image": "i", "debugger": "", "ttl": "1"},
        {"image": "i", "debugger": "", "hold_until": "never"},
    ],
)
def test_requests_that_are_none(spec: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"spec": spec}, DebugRequest)


@pytest.mark.parametrize("spec", [{}, {"attachment": None}, {"attachment": []}, {"attachment": "pod"}])
def test_attachments_that_are_none(spec: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"spec": spec}, DebugAttachment)


def test_order_of_states_and_phases() -> None:
    assert [state.value for state in sorted(State, key=lambda s: s.rank)] == ["none", "attaching", "attached", "error"]
    assert [state for state in State if state.final] == [State.ATTACHED, State.ERROR]
    ranks = [phase.rank for phase in Phase]
    assert ranks == sorted(ranks)


TEXTS = st.none() | st.text(max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
IMAGES = st.none() | st.from_regex(r"[^\x00-\x1f\x7f\ud800-\udfff]{0,20}", fullmatch=True)
SPECS = st.builds(
    AttachmentSpec,
    attachment=st.dictionaries(st.text(max_size=5), JSON, max_size=3),
    debugger=TEXTS,
    image=IMAGES,
    process_name=TEXTS,
    node=TEXTS,
    match_request=st.none() | st.booleans(),
    ttl=st.none() | st.floats(0.001, 1e6),
)


@given(SPECS)
def test_attachments_survive_the_wire(spec: AttachmentSpec) -> None:
    attachment = DebugAttachment(spec=spec)
    assert msgspec.json.decode(msgspec.json.encode(attachment), type=DebugAttachment) == attachment


@given(st.lists(SPECS, max_size=3), st.lists(st.text(max_size=10), max_size=3), st.booleans())
def test_changes_survive_the_wire(specs: list[AttachmentSpec], deleted: list[str], reset: bool) -> None:
    attachments = [DebugAttachment(spec=spec) for spec in specs]
    news = Changes(revision="r", attachments=attachments, deleted=deleted, reset=reset)
    assert msgspec.json.decode(msgspec.json.encode(news), type=Changes) == news


def test_objects_are_immutable() -> None:
    spec = RequestSpec(image="i", debugger="")
    with pytest.raises(AttributeError):
        spec.image = "other"  # type: ignore[misc]  # the point of the test
    assert asdict(spec)["image"] == "i"

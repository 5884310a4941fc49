"""What is said to the inspector's interpreter, or by it, that is not of the protocol."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from agent.protocols.inspector import LONGEST, Inspector
from agent.protocols.interpreter import Event, Flow
from agent.terms import ORDINARY, Terms
from squash.model import Action
from tests.agent.protocols.inspection import AT, ENDING, GATE, GUEST, LOOKING, SET, Talk, unhurried


def ended(talk: Talk) -> bool:
    """Told, recorded, and nothing passes any more."""
    silent = talk.inspector.from_client(b"x"), talk.inspector.from_server(b"x\n")
    return (
        talk.over
        and bool(talk.inspector.lost)
        and talk.events[-1] == Event(Action.UNFOLLOWED, "the session was ended")
        and all(flow.over and not (flow.server or flow.client) for flow in silent)
    )


@pytest.mark.parametrize("terms", [ORDINARY, LOOKING, ENDING])
@pytest.mark.parametrize(
    "text",
    [
        b"garbage",
        b"[]",
        b"null",
        b"{}",
        b'{"id": 1}',
        b'{"method": "Debugger.enable"}',
        b'{"id": "1", "method": "Debugger.enable"}',
        b'{"id": 1.5, "method": "Debugger.enable"}',
        b'{"id": -1, "method": "Debugger.enable"}',
        b'{"id": 1073741824, "method": "Debugger.enable"}',
        b'{"id": 1, "method": 7}',
        b'{"id": 1, "method": "Debugger.enable", "params": []}',
        b'{"id": 1, "method": "\xff\xfe"}',
        b'{"id": 1, "method": "Debugger.enable"} {"id": 2}',
        b"[" * 100_000,
        b'{"id": 1, "method": "x", "params": ' + b'{"a":' * 100_000,
    ],
)
def test_a_message_that_is_none_ends_the_session(text: bytes, terms: Terms) -> None:
    talk = Talk(terms)
    talk.raw(Frame(Opcode.TEXT, text).serialize(mask=True))
    assert ended(talk)
    assert talk.quiet


@pytest.mark.parametrize(
    "frame",
    [
        Frame(Opcode.TEXT, b"{}").serialize(mask=False),
        Frame(Opcode.BINARY, b"{}").serialize(mask=True),
        Frame(Opcode.CONT, b"{}").serialize(mask=True),
        b"\xf1" + Frame(Opcode.TEXT, b"{}").serialize(mask=True)[1:],
        b"\x83" + Frame(Opcode.TEXT, b"{}").serialize(mask=True)[1:],
        b"\x81\xff" + (LONGEST + 1).to_bytes(8) + bytes(4),
        b"\x81\xff" + (1 << 63).to_bytes(8) + bytes(4),
    ],
    # Masks are random, and every worker has to name the tests alike.
    ids=["unmasked", "binary", "continued", "reserved", "opcode", "too-long", "endless"],
)
def test_a_frame_that_lies_ends_the_session(frame: bytes) -> None:
    talk = Talk()
    talk.raw(frame)
    assert ended(talk)


def test_a_length_that_is_never_filled_asks_for_nothing() -> None:
    talk = Talk()
    talk.raw(b"\x81\xff" + (LONGEST - 1).to_bytes(8) + bytes(4) + b"x" * 1000)
    assert not talk.over
    assert talk.quiet


@pytest.mark.parametrize("first", [b"\x00" * 9000, b"GET\r\n\r\n", b"POST / HTTP/1.1\r\n\r\n"])
def test_what_is_no_http_ends_the_session(first: bytes) -> None:
    inspector = Inspector()
    flow = inspector.from_client(first)
    assert flow.over
    assert not flow.server


def test_a_process_that_says_something_else_ends_the_session() -> None:
    talk = Talk()
    talk.say(1, SET, **AT)
    talk.took(talk.inspector.from_server(b"what?\n"))
    assert ended(talk)


def test_a_ping_is_answered_and_not_passed_on() -> None:
    talk = Talk()
    talk.web.send_ping(b"there?")
    talk._pass(talk.inspector.from_client)
    assert talk.quiet
    assert not talk.over


def test_last_words_are_heard_and_fit_into_a_frame() -> None:
    talk = Talk()
    talk.took(Flow(client=[talk.inspector.last_words("\u00e4" * 500)]))
    assert talk.told[-1]["method"] == "Inspector.detached"
    assert talk.web.close_rcvd
    assert talk.web.close_rcvd.code == 1001


@unhurried
@given(st.lists(st.binary(max_size=300), max_size=9), st.booleans())
def test_garbage_is_never_a_crash(pieces: list[bytes], framed: bool) -> None:
    talk = Talk(LOOKING)
    for piece in pieces:
        flow = talk.inspector.from_client(Frame(Opcode.TEXT, piece).serialize(mask=True) if framed else piece)
        assert all(json.loads(said) for said in flow.server)
        if flow.over:
            assert talk.inspector.from_client(b"more").over
            break


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=9,
)
_methods = st.sampled_from([SET, GATE, "Debugger.setBreakpoint", "Debugger.removeBreakpoint", "Runtime.evaluate", "x"])
_messages = st.fixed_dictionaries(
    {"id": st.integers(0, 5), "method": _methods},
    optional={
        "params": st.dictionaries(
            st.sampled_from(["url", "lineNumber", "location", "condition", "breakpointId", "expression"]), _json
        )
    },
)
_answers = st.fixed_dictionaries(
    {"id": st.integers(0, 5)},
    optional={"error": _json, "result": st.dictionaries(st.sampled_from(["breakpointId", "locations"]), _json)},
)


@unhurried
@given(
    st.sampled_from([ORDINARY, LOOKING, GUEST, ENDING]),
    st.lists(_messages.map(lambda said: (True, said)) | _answers.map(lambda said: (False, said)), max_size=20),
)
def test_any_parameters_are_understood_or_end_the_session(terms: Terms, said: list[tuple[bool, Any]]) -> None:
    talk = Talk(terms)
    for up, message in said:
        text = json.dumps(message).encode()
        if up:
            talk.took(talk.inspector.from_client(Frame(Opcode.TEXT, text).serialize(mask=True)))
        else:
            talk.took(talk.inspector.from_server(text + b"\n"))
        if talk.over:
            assert talk.inspector.lost
            break
    assert isinstance(talk.inspector.remarks(), str)
    assert all(isinstance(value, bytes) for value in talk.inspector.kept.values())

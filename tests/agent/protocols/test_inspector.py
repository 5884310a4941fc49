"""The inspector's interpreter, fed with the bytes of conversations in pieces of every size."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from agent.protocols.inspector import OURS, Inspector
from agent.protocols.interpreter import Flow
from squash.reasons import Reason
from tests.agent.protocols.inspection import AT, GATE, LOOKING, SET, Talk, found, line, ready, unhurried
from tests.agent.protocols.speech import cut

# -- coming in ------------------------------------------------------------------------------------------


def get(path: str, host: str = "127.0.0.1:9229", **headers: str) -> tuple[Inspector, Flow]:
    inspector = Inspector()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return inspector, inspector.from_client(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode())


@pytest.mark.parametrize("path", ["/json", "/json/list", "/json/"])
@pytest.mark.parametrize("host", ["localhost:4711", "127.0.0.1:4711", "[::1]:4711"])
def test_it_tells_where_it_is_as_node_does(path: str, host: str) -> None:
    inspector, flow = get(path, host)
    head, _, body = b"".join(flow.client).partition(b"\r\n\r\n")
    [target] = json.loads(body)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert target["webSocketDebuggerUrl"] == f"ws://{host}/squash"
    assert target["type"] == "node"
    assert flow.over
    assert flow.events == []
    assert inspector.left


def test_it_tells_a_version() -> None:
    _, flow = get("/json/version")
    assert b'"Protocol-Version":"1.1"' in b"".join(flow.client)


@pytest.mark.parametrize(
    ("path", "host", "headers", "status"),
    [
        ("/json/list", "evil.example:9229", {}, b"403"),
        ("/squash", "127.0.0.1:9229", {"Origin": "http://127.0.0.1:9229", "Upgrade": "websocket"}, b"403"),
        ("/squash", "127.0.0.1:9229", {"Origin": "null", "Upgrade": "websocket"}, b"403"),
        ("/favicon.ico", "127.0.0.1:9229", {}, b"404"),
        ("/squash", "127.0.0.1:9229", {"Upgrade": "websocket"}, b"426"),
    ],
)
def test_pages_and_strangers_stay_outside(path: str, host: str, headers: dict[str, str], status: bytes) -> None:
    inspector, flow = get(path, host, **headers)
    assert b"".join(flow.client).startswith(b"HTTP/1.1 " + status)
    assert flow.over
    assert not flow.server
    assert not inspector.lost


def test_who_only_asks_leaves_the_breakpoints_of_the_last_session_alone() -> None:
    kept = {(SET, "x"): b"{}"}
    inspector = Inspector(kept=kept)
    inspector.from_client(b"GET /json/list HTTP/1.1\r\nHost: localhost:1\r\n\r\n")
    assert inspector.kept == kept


def test_who_cannot_come_in_is_told_so_in_http() -> None:
    asked = b"GET /json HTTP/1.1\r\n\r\n"
    assert Inspector.turned_away(asked[:-1], Reason.SESSION_BUSY, "ann holds it") == b""
    answer = Inspector.turned_away(asked, Reason.SESSION_BUSY, "ann h\u00e4lt sie")
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer.endswith("squash: ann h\u00e4lt sie\n".encode())


# -- the ready gate -------------------------------------------------------------------------------------


def test_vs_code_sets_its_breakpoints_and_then_lets_the_program_run() -> None:
    talk = Talk()
    talk.say(1, "Debugger.enable")
    talk.say(2, SET, **AT)
    talk.say(3, SET, url="file:///app/other.js", lineNumber=41)
    talk.answer(2, **found())
    assert not ready(talk)
    talk.say(4, GATE)
    assert not ready(talk), "the second breakpoint is not answered yet"
    talk.answer(3, breakpointId="1:41:0:file:///app/other.js", locations=[])
    assert ready(talk)
    assert talk.inspector.remarks() == "breakpoints not verified: file:///app/other.js:42"
    assert [said["id"] for said in talk.asked] == [1, 2, 3, 4]
    assert [said["id"] for said in talk.told] == [2, 3]


def test_node_inspect_lets_the_program_run_and_sets_its_breakpoints_then() -> None:
    talk = Talk()
    talk.say(1, GATE)
    talk.answer(1)
    assert not ready(talk)
    talk.say(2, SET, **AT)
    assert not ready(talk)
    talk.answer(2, **found())
    assert ready(talk)
    assert talk.inspector.remarks() == ""


def test_a_client_without_breakpoints_is_never_ready_by_itself() -> None:
    talk = Talk()
    for number, method in enumerate(("Runtime.enable", "Debugger.enable", GATE, "Debugger.pause"), 1):
        talk.say(number, method)
        talk.answer(number)
    assert not ready(talk)


def test_a_breakpoint_that_is_refused_is_answered_too() -> None:
    talk = Talk()
    talk.say(1, SET, **AT)
    talk.say(2, GATE)
    talk.took(talk.inspector.from_server(line(id=1, error={"code": -32000, "message": "no"})))
    assert ready(talk)
    assert talk.inspector.remarks() == "breakpoints not verified: file:///app/shop.js:7"


def test_of_many_that_are_not_verified_the_number_is_given() -> None:
    talk = Talk()
    for number in range(1, 9):
        talk.say(number, SET, url="x.js", lineNumber=number)
        talk.answer(number, **found(f"1:{number}", locations=0))
    assert talk.inspector.remarks().endswith("x.js:6 and 3 more")


@unhurried
@given(st.lists(st.integers(1, 40), min_size=1), st.lists(st.integers(1, 40), min_size=1))
def test_it_does_not_care_how_the_bytes_are_cut(up: list[int], down: list[int]) -> None:
    talk = Talk()
    talk.say(1, SET, sizes=tuple(up), **AT)
    talk.say(2, GATE, sizes=tuple(up))
    said = line(method="Debugger.scriptParsed", params={"url": "y" * 200}) + line(id=1, result=found())
    for piece in cut(said, down):
        talk.took(talk.inspector.from_server(piece))
    assert ready(talk)
    assert [said.get("id") for said in talk.told] == [None, 1]


def test_messages_in_fragments_are_one() -> None:
    talk = Talk()
    said = json.dumps({"id": 1, "method": GATE, "params": {}}).encode()
    pieces = cut(said, [len(said) // 5 + 1])
    for number, piece in enumerate(pieces):
        frame = Frame(Opcode.CONT if number else Opcode.TEXT, piece, fin=number == len(pieces) - 1)
        talk.raw(frame.serialize(mask=True))
    assert [said["method"] for said in talk.asked] == [GATE]


# -- breakpoints of a session that broke off ------------------------------------------------------------


def broken_off() -> Any:
    talk = Talk()
    talk.say(1, SET, **AT, condition="total > 1")
    talk.answer(1, **found("b1"))
    talk.say(2, SET, url="x.js", lineNumber=3)
    talk.answer(2, **found("b2"))
    talk.say(3, SET, url="y.js", lineNumber=4)
    talk.answer(3, **found("b3"))
    talk.say(4, "Debugger.removeBreakpoint", breakpointId="b2")
    return talk.inspector.kept


def test_what_a_vanished_client_had_set_is_set_again_when_it_lets_the_program_run() -> None:
    talk = Talk(kept=broken_off())
    talk.say(1, SET, url="y.js", lineNumber=4)
    talk.answer(1, **found("b3"))
    talk.say(2, GATE)
    ours = talk.asked[-1]
    assert ours == {"method": SET, "id": OURS, "params": {**AT, "condition": "total > 1"}}
    assert "squash: breakpoints set again: file:///app/shop.js:7" in json.dumps(talk.told[-1])
    assert not ready(talk)
    talk.answer(OURS, **found("b1"))
    assert ready(talk)
    assert OURS not in [said.get("id") for said in talk.told]
    assert {name for _, name in talk.inspector.kept} == {"b1", "b3"}


def test_a_client_that_sets_the_same_again_means_its_own() -> None:
    talk = Talk(kept=broken_off())
    talk.say(1, GATE)
    for number in (OURS, OURS + 1):
        talk.answer(number, **found(f"b{number}"))
    talk.say(2, SET, **AT)
    assert [(said["method"], said["params"]) for said in talk.asked[-2:]] == [
        ("Debugger.removeBreakpoint", {"breakpointId": "b1"}),
        (SET, AT),
    ]


def test_who_leaves_in_good_order_is_done_with_its_breakpoints() -> None:
    talk = Talk()
    talk.say(1, SET, **AT)
    talk.answer(1, **found())
    talk.web.send_close(1000)
    talk._pass(talk.inspector.from_client)
    assert talk.over
    assert talk.inspector.left
    assert talk.inspector.kept == {}


def test_a_condition_is_not_set_again_for_one_who_only_looks() -> None:
    talk = Talk(LOOKING, kept=broken_off())
    talk.say(1, GATE)
    assert [said["params"] for said in talk.asked[1:]] == [{"url": "y.js", "lineNumber": 4}]

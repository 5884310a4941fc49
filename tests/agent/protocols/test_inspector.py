"""The inspector's interpreter, fed with the bytes of conversations in pieces of every size."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from agent.protocols.inspector import LONGEST, OURS, Inspector
from agent.protocols.interpreter import Event, Flow
from agent.terms import ORDINARY, Terms
from squash.model import Action
from squash.reasons import Reason
from tests.agent.protocols.speech import cut

LOOKING = Terms(read_only=True)
GUEST = Terms(read_only=True, looks_only=True)
ENDING = Terms(allow_terminate=True)
GATE = "Runtime.runIfWaitingForDebugger"
SET = "Debugger.setBreakpointByUrl"
AT: dict[str, Any] = {"url": "file:///app/shop.js", "lineNumber": 6}
unhurried = settings(deadline=None)
"""On a busy machine any example may take its time."""


class Talk:
    """An interpreter, a client's end of its WebSocket, and the process's end of its lines."""

    def __init__(self, terms: Terms = ORDINARY, kept: Any = None) -> None:
        self.inspector = Inspector(terms, kept)
        self.web = ClientProtocol(parse_uri("ws://127.0.0.1:9229/squash"))
        self.web.send_request(self.web.connect())
        self.flows: list[Flow] = []
        self.told: list[dict[str, Any]] = []
        """What the client got."""
        self.asked: list[dict[str, Any]] = []
        """What the process got."""
        self.over = False
        self._pass(self.inspector.from_client)
        assert self.web.state is State.OPEN

    @property
    def events(self) -> list[Event]:
        return [event for flow in self.flows for event in flow.events]

    def _pass(self, take: Callable[[bytes], Flow], sizes: tuple[int, ...] = (1 << 20,)) -> None:
        for piece in cut(b"".join(self.web.data_to_send()), list(sizes)):
            self.took(take(piece))

    def took(self, flow: Flow) -> Flow:
        self.flows.append(flow)
        self.over = self.over or flow.over
        self.asked += [json.loads(line) for line in b"".join(flow.server).splitlines()]
        self.web.receive_data(b"".join(flow.client))
        for frame in self.web.events_received():
            if isinstance(frame, Frame) and frame.opcode == Opcode.TEXT:
                self.told.append(json.loads(bytes(frame.data)))
        return flow

    def say(self, number: int, method: str, *, sizes: tuple[int, ...] = (1 << 20,), **params: Any) -> None:
        self.web.send_text(json.dumps({"id": number, "method": method, "params": params}).encode())
        self._pass(self.inspector.from_client, sizes)

    def raw(self, data: bytes) -> None:
        self.took(self.inspector.from_client(data))

    @property
    def quiet(self) -> bool:
        """Whether the process was asked nothing."""
        return self.asked == []

    def answer(self, number: int, **result: Any) -> None:
        self.took(self.inspector.from_server(line(id=number, result=result)))


def ready(talk: Talk) -> bool:
    return talk.inspector.ready


def line(**message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


def found(name: str = "1:6:0:file:///app/shop.js", *, locations: int = 1) -> dict[str, Any]:
    return {"breakpointId": name, "locations": [{"scriptId": "7", "lineNumber": 6}] * locations}


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


# -- what a session may do ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("Runtime.evaluate", {"expression": "secret()"}),
        ("Runtime.evaluate", {"expression": "secret()", "throwOnSideEffect": "yes"}),
        ("Runtime.callFunctionOn", {"functionDeclaration": "secret"}),
        ("Runtime.runScript", {"scriptId": "1", "throwOnSideEffect": True}),
        ("Debugger.evaluateOnCallFrame", {"expression": "secret()"}),
        ("Debugger.setVariableValue", {"variableName": "secret"}),
        ("Debugger.setScriptSource", {"scriptSource": "secret"}),
        ("Debugger.setReturnValue", {"newValue": {"value": "secret"}}),
        ("Debugger.restartFrame", {}),
        (SET, {**AT, "condition": "secret()"}),
        ("Debugger.setBreakpointOnFunctionCall", {"objectId": "1", "condition": "secret()"}),
        ("NodeWorker.sendMessageToWorker", {"message": "secret"}),
        ("NodeTracing.start", {}),
        ("HeapProfiler.takeHeapSnapshot", {}),
        ("secret.secret", {}),
    ],
)
def test_what_would_change_something_is_refused_in_the_protocols_form(method: str, params: dict[str, Any]) -> None:
    talk = Talk(LOOKING)
    talk.say(7, method, **params)
    assert talk.quiet
    [answer] = talk.told
    assert answer["id"] == 7
    assert answer["error"]["code"] == -32000
    assert answer["error"]["message"].startswith("squash: this session may look, but change nothing, and ")
    [event] = talk.events
    assert event.action is Action.REFUSED
    assert "secret" not in event.detail


@pytest.mark.parametrize(
    ("method", "params"),
    [
        *((f"Debugger.{name}", {}) for name in ("enable", "pause", "resume", "stepInto", "stepOver", "stepOut")),
        *((f"Runtime.{name}", {}) for name in ("enable", "getProperties", "runIfWaitingForDebugger")),
        ("Debugger.getScriptSource", {"scriptId": "7"}),
        (SET, AT),
        (SET, {**AT, "condition": ""}),
        ("Runtime.evaluate", {"expression": "total", "throwOnSideEffect": True}),
        ("Debugger.evaluateOnCallFrame", {"expression": "total", "throwOnSideEffect": True}),
    ],
)
def test_who_only_looks_may_look_and_steer(method: str, params: dict[str, Any]) -> None:
    talk = Talk(LOOKING)
    talk.say(7, method, **params)
    assert [said["method"] for said in talk.asked] == [method]
    assert talk.told == []


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("Debugger.pause", {}),
        ("Debugger.resume", {}),
        ("Debugger.stepInto", {}),
        (SET, AT),
        ("Debugger.setPauseOnExceptions", {"state": "all"}),
        ("Debugger.setSkipAllPauses", {"skip": False}),
    ],
)
def test_guests_stop_and_steer_nothing(method: str, params: dict[str, Any]) -> None:
    talk = Talk(GUEST)
    talk.say(7, method, **params)
    assert talk.quiet
    assert talk.told[0]["error"]["message"].endswith("only its owner stops and steers a process")


def test_a_statement_in_the_program_does_not_stop_it_for_a_guest() -> None:
    talk = Talk(GUEST)
    talk.say(1, "Debugger.enable")
    assert [(said["method"], said["params"]) for said in talk.asked] == [
        ("Debugger.enable", {}),
        ("Debugger.setSkipAllPauses", {"skip": True}),
    ]
    talk.answer(OURS)
    talk.answer(1)
    assert [said["id"] for said in talk.told] == [1]


@pytest.mark.parametrize("method", ["Runtime.terminateExecution", "Browser.close"])
@pytest.mark.parametrize("terms", [ORDINARY, LOOKING, Terms(read_only=True, allow_terminate=True)])
def test_ending_the_process_is_refused(method: str, terms: Terms) -> None:
    talk = Talk(terms)
    talk.say(7, method)
    assert talk.quiet
    assert talk.events == [Event(Action.TERMINATION_REFUSED, method)]
    assert "may not end the process" in talk.told[0]["error"]["message"]


def test_where_it_is_allowed_the_process_really_ends() -> None:
    talk = Talk(ENDING)
    talk.say(7, "Runtime.terminateExecution")
    assert [said["method"] for said in talk.asked] == ["Runtime.terminateExecution"]
    assert talk.events == [Event(Action.TERMINATED, "terminateExecution")]


@pytest.mark.parametrize(
    ("method", "params", "event"),
    [
        ("Runtime.evaluate", {"expression": "secret"}, Event(Action.EVALUATED)),
        ("Debugger.setVariableValue", {"variableName": "secret"}, Event(Action.CHANGED, "setVariableValue")),
        ("Debugger.resume", {}, Event(Action.RESUMED, "continue")),
        ("Debugger.stepOver", {}, Event(Action.RESUMED, "step")),
        ("Debugger.pause", {}, Event(Action.PAUSED)),
        (SET, {**AT, "condition": "secret"}, Event(Action.BREAKPOINTS, "1 in file:///app/shop.js:7")),
    ],
)
def test_what_is_written_down(method: str, params: dict[str, Any], event: Event) -> None:
    talk = Talk()
    talk.say(7, method, **params)
    assert talk.events == [event]


def test_a_name_twice_means_the_same_to_all() -> None:
    """Whoever reads the first, and whoever reads the last, must not read different things."""
    talk = Talk(LOOKING)
    said = b'{"id": 7, "method": "Runtime.evaluate", "method": "Debugger.enable", "params": {"a": 1, "a": 2}}'
    talk.web.send_text(said)
    talk._pass(talk.inspector.from_client)
    assert talk.flows[-1].server == [b'{"method":"Debugger.enable","id":7,"params":{"a":2}}\n']


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


# -- what is not of the protocol ------------------------------------------------------------------------


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

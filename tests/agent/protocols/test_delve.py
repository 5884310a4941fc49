"""The interpreter of what delve speaks: its JSON-RPC, and DAP by the first byte."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocols.delve import Delve
from agent.protocols.delve_rpc import OURS, Reader, ViolationError
from agent.protocols.interpreter import Event, Flow
from agent.terms import ORDINARY, Terms
from squash.model import Action
from squash.reasons import Reason
from tests.agent.protocols.speech import cut, messages, request, response

LOOKING = Terms(read_only=True)
GUEST = Terms(read_only=True, looks_only=True)
ENDING = Terms(allow_terminate=True)
PLACE = {"file": "/app/price.go", "line": 7}

unhurried = settings(deadline=None)
"""On a busy machine any example may take its time."""


def ask(number: int, method: str, **argument: Any) -> bytes:
    return json.dumps({"method": f"RPCServer.{method}", "params": [argument], "id": number}).encode()


def answer(number: int, result: Any = None, error: str | None = None) -> bytes:
    return json.dumps({"id": number, "result": result, "error": error}).encode() + b"\n"


def made(number: int, breakpoint: int = 1) -> bytes:
    return answer(number, {"Breakpoint": {"id": breakpoint, "addr": 4096}})


SET = ask(1, "CreateBreakpoint", Breakpoint=PLACE)
CONTINUE = ask(2, "Command", name="continue")


def said(pieces: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(pieces).splitlines()]


def ready(session: Delve) -> bool:
    return session.ready


# -- the ready gate -------------------------------------------------------------------------------------


def test_ready_at_the_first_continue_when_breakpoints_are_answered() -> None:
    session = Delve()
    session.from_client(SET)
    session.from_server(made(1))
    assert not ready(session)
    session.from_client(ask(3, "State", NonBlocking=True))
    session.from_server(answer(3, {"State": {}}))
    assert not ready(session)
    session.from_client(CONTINUE)
    assert ready(session)
    assert session.remarks() == ""


def test_a_breakpoint_that_is_still_open_keeps_the_gate_shut() -> None:
    session = Delve()
    session.from_client(SET + CONTINUE)
    assert not ready(session)
    session.from_server(answer(1, error="could not find file /app/price.go"))
    assert ready(session)
    assert session.remarks() == ("breakpoints not verified: /app/price.go:7 (could not find file /app/price.go)")


@pytest.mark.parametrize("name", ["halt", "next", "step", "switchGoroutine"])
def test_nothing_else_opens_it(name: str) -> None:
    session = Delve()
    session.from_client(ask(1, "Command", name=name))
    assert not ready(session)


def test_many_refused_breakpoints_are_counted() -> None:
    session = Delve()
    for line in range(9):
        session.from_client(ask(line, "CreateBreakpoint", breakpoint={"File": "/a.go", "LINE": line}))
        session.from_server(answer(line, error="no"))
    session.from_client(ask(10, "CreateBreakpoint", LocExpr="main.main"))
    session.from_server(answer(10, error="no"))
    assert session.remarks().endswith("/a.go:4 (no) and 5 more")


# -- what a session may do ------------------------------------------------------------------------------


def test_the_end_of_the_process_becomes_a_detach() -> None:
    session = Delve()
    flow = session.from_client(ask(4, "Detach", Kill=True))
    assert flow.events == [Event(Action.TERMINATION_REFUSED, "Detach")]
    assert said(flow.client) == [{"id": 4, "result": {}, "error": None}]
    assert (flow.server, flow.over, session.left) == ([], True, True)


def test_delve_never_hears_of_a_detach() -> None:
    session = Delve()
    session.from_client(CONTINUE)
    flow = session.from_client(ask(3, "Detach", Kill=False) + ask(4, "State"))
    assert said(flow.client) == [{"id": 3, "result": {}, "error": None}]
    assert (flow.server, flow.events, flow.over) == ([], [], True)


def test_the_end_of_the_process_where_that_is_allowed() -> None:
    flow = Delve(ENDING).from_client(ask(4, "Detach", kill=True))
    assert flow.events == [Event(Action.TERMINATED, "Detach")]
    assert said(flow.server)[0]["params"] == [{"Kill": True}]


def test_the_end_of_a_process_that_runs_waits_until_it_is_halted() -> None:
    session = Delve(ENDING)
    session.from_client(CONTINUE)
    flow = session.from_client(ask(3, "Detach", Kill=True) + ask(4, "State"))
    (halt,) = said(flow.server)
    assert halt["params"] == [{"name": "halt"}]
    flow = session.from_server(answer(2, {"State": {}}))
    assert said(flow.client) == [{"id": 2, "result": {"State": {}}, "error": None}]
    assert not flow.server
    flow = session.from_server(answer(halt["id"], {"State": {}}))
    assert not flow.client
    assert [each["id"] for each in said(flow.server)] == [3, 4]


@pytest.mark.parametrize(
    ("terms", "text", "refused"),
    [
        (LOOKING, ask(1, "Set", Symbol="total", Value="1"), True),
        (LOOKING, ask(1, "Command", name="call", expr="f()"), True),
        (LOOKING, ask(1, "Command", NAME="call", expr="f()"), True),
        (LOOKING, ask(1, "Command", name="somethingNew"), True),
        (LOOKING, ask(1, "SomethingNew"), True),
        (LOOKING, ask(1, "CreateBreakpoint", Breakpoint={**PLACE, "Cond": "check(x)"}), True),
        (LOOKING, ask(1, "CreateBreakpoint", Breakpoint={**PLACE, "Cond": "x > 1"}), False),
        (LOOKING, ask(1, "Eval", Expr="x"), False),
        (LOOKING, ask(1, "Command", name="next"), False),
        (GUEST, ask(1, "Command", name="next"), True),
        (GUEST, ask(1, "Command", name="halt"), True),
        (GUEST, SET, True),
        (GUEST, ask(1, "Command", name="continue"), False),
        (GUEST, ask(1, "Stacktrace", Id=-1), False),
        (ORDINARY, ask(1, "Set", Symbol="total", Value="1"), False),
        (ORDINARY, ask(1, "SetApiVersion", APIVersion=2), False),
        (ORDINARY, ask(1, "SetApiVersion", APIVersion=1), True),
        (ORDINARY, ask(1, "Restart"), True),
        (ENDING, ask(1, "DumpStart", Destination="/etc/passwd"), True),
        (ENDING, ask(1, "FollowExec", Enable=True), True),
    ],
)
def test_what_is_refused(terms: Terms, text: bytes, refused: bool) -> None:
    flow = Delve(terms).from_client(text)
    assert bool(flow.server) is not refused
    if refused:
        (told,) = said(flow.client)
        assert told["id"] == 1
        assert told["result"] is None
        assert ("read_only" if terms.read_only else "forbidden") in told["error"]
        assert flow.events[0].action is Action.REFUSED
    else:
        assert b"".join(flow.server).strip() == text


@pytest.mark.parametrize(
    ("text", "events"),
    [
        (SET, [Event(Action.BREAKPOINTS, "1 in /app/price.go:7")]),
        (CONTINUE, [Event(Action.RESUMED, "continue")]),
        (ask(1, "Command", name="stepOut"), [Event(Action.RESUMED, "step")]),
        (ask(1, "Command", name="call", expr="secret()"), [Event(Action.EVALUATED, "call")]),
        (ask(1, "Command", name="halt"), [Event(Action.PAUSED)]),
        (ask(1, "Eval", Expr="secret"), [Event(Action.EVALUATED)]),
        (ask(1, "Set", Symbol="secret", Value="1"), [Event(Action.CHANGED, "setVariable")]),
        (ask(1, "ListGoroutines"), []),
    ],
)
def test_what_is_written_down(text: bytes, events: list[Event]) -> None:
    assert Delve().from_client(text).events == events


@pytest.mark.parametrize(
    "text",
    [
        b'{"method": "RPCServer.Detach", "params": [{"Kill": false, "kill": true}], "id": 1}',
        b'{"method": "RPCServer.Detach", "params": [{"Kill": false, "\xe2\x84\xaaill": true}], "id": 1}',
        b'{"method": "RPCServer.State", "METHOD": "RPCServer.Detach", "params": [{}], "id": 1}',
        b'{"method": 7}',
        b'{"method": "RPCServer.State", "id": [1]}',
        b"[]",
        b"GET / HTTP/1.1",
        b'{"a": }',
        b'"text"',
    ],
)
def test_what_could_be_understood_in_two_ways_ends_the_session(text: bytes) -> None:
    session = Delve(LOOKING)
    flow = session.from_client(text)
    assert flow.over
    assert not flow.server
    assert session.lost


# -- breakpoints of a session that broke off ------------------------------------------------------------


def test_breakpoints_are_given_back_before_the_first_continue() -> None:
    first = Delve()
    first.from_client(SET + ask(5, "CreateBreakpoint", Breakpoint={"functionName": "main.main"}))
    first.from_server(made(1, 1) + made(5, 2))
    first.from_client(ask(6, "ClearBreakpoint", Id=2))
    again = Delve(ORDINARY, first.kept)
    flow = again.from_client(CONTINUE)
    ours, passed = said(flow.server)
    assert ours["id"] > OURS
    assert ours["params"] == [{"Breakpoint": PLACE}]
    assert passed["id"] == 2
    assert not ready(again)
    assert not again.from_server(made(ours["id"], 4)).client
    assert ready(again)
    assert len(again.kept) == 1


def test_one_that_the_client_has_set_itself_is_not_set_twice() -> None:
    first = Delve()
    first.from_client(SET)
    first.from_server(made(1))
    again = Delve(ORDINARY, first.kept)
    again.from_client(SET)
    again.from_server(made(1))
    assert len(said(again.from_client(CONTINUE).server)) == 1


def test_who_takes_leave_is_done_with_them() -> None:
    session = Delve()
    session.from_client(SET)
    session.from_server(made(1))
    assert session.kept
    session.from_client(ask(3, "Detach", Kill=False))
    assert not session.kept


def test_a_client_of_the_other_protocol_does_not_get_them() -> None:
    first = Delve()
    first.from_client(SET)
    first.from_server(made(1))
    other = Delve(ORDINARY, first.kept)
    flow = other.from_client(request(1, "configurationDone"))
    assert len(messages(b"".join(flow.server))) == 1


# -- DAP ------------------------------------------------------------------------------------------------


def test_dap_is_known_by_its_first_byte() -> None:
    session = Delve()
    flow = session.from_client(request(1, "attach", mode="local", processId=7, substitutePath=[]))
    (passed,) = messages(b"".join(flow.server))
    assert passed["arguments"] == {"request": "attach", "mode": "remote", "substitutePath": []}
    session.from_client(request(2, "configurationDone"))
    session.from_server(response(1, 2, "configurationDone"))
    assert ready(session)


@pytest.mark.parametrize(
    ("command", "given", "events"),
    [
        ("disconnect", {}, []),
        ("disconnect", {"terminateDebuggee": True}, [Event(Action.TERMINATION_REFUSED, "disconnect")]),
        ("terminate", {}, [Event(Action.TERMINATION_REFUSED, "terminate")]),
    ],
)
def test_dap_ends_the_debugging_and_not_the_service(command: str, given: dict[str, bool], events: list[Event]) -> None:
    session = Delve(LOOKING)
    flow = session.from_client(request(1, command, **given))
    answer, event = messages(b"".join(flow.client))
    assert (answer["request_seq"], answer["success"], answer["command"]) == (1, True, command)
    assert event["event"] == "terminated"
    assert (flow.server, flow.events, flow.over, session.left) == ([], events, True, True)


def test_dap_ends_the_service_where_that_is_allowed() -> None:
    flow = Delve(ENDING).from_client(request(1, "disconnect", terminateDebuggee=True))
    (passed,) = messages(b"".join(flow.server))
    assert passed["arguments"]["terminateDebuggee"] is True
    assert not flow.over


def test_a_farewell_waits_for_the_end_of_a_message() -> None:
    session = Delve()
    session.from_client(request(1, "configurationDone"))
    heard = b"".join(session.from_server(response(1, 1, "configurationDone")).client)
    long = response(2, 9, "variables")
    heard += b"".join(session.from_server(long[:30]).client)
    flow = session.from_client(request(3, "disconnect"))
    assert (flow.client, flow.over) == ([], False)
    flow = session.from_server(long[30:])
    assert flow.over
    heard += b"".join(flow.client)
    assert [each.get("command") for each in messages(heard)] == ["configurationDone", "variables", "disconnect", None]
    assert [each["seq"] for each in messages(heard)] == [1, 2, 3, 4]


# -- parting, and odd bytes -----------------------------------------------------------------------------


def test_last_words_answer_what_waits() -> None:
    session = Delve()
    assert session.last_words("over") == b""
    session.from_client(CONTINUE)
    (told,) = said([session.last_words("over")])
    assert told["id"] == 2
    assert "squash: over" in told["error"]


def test_who_cannot_come_in_is_told_why() -> None:
    assert Delve.turned_away(CONTINUE[:9], Reason.SESSION_BUSY, "ann holds it") == b""
    (told,) = said([Delve.turned_away(CONTINUE, Reason.SESSION_BUSY, "ann holds it")])
    assert told == {"id": 2, "result": None, "error": "squash: ann holds it (session_busy)"}
    (other,) = messages(Delve.turned_away(request(1, "initialize"), Reason.SESSION_BUSY, "ann holds it"))
    assert other["message"] == "session_busy"
    assert Delve.turned_away(b"?", Reason.SESSION_BUSY, "x") == b"\n"


@unhurried
@given(st.lists(st.integers(1, 40), min_size=1))
def test_it_does_not_care_how_the_bytes_are_cut(sizes: list[int]) -> None:
    session, passed, heard = Delve(), b"", b""
    up, down = SET + b" \n" + ask(9, "Eval", Expr='a["}\\"{"]') + CONTINUE, made(1) + answer(9, {"x": "}{"})
    for piece in cut(up, sizes):
        passed += b"".join(session.from_client(piece).server)
    for piece in cut(down, sizes):
        heard += b"".join(session.from_server(piece).client)
    assert [each["id"] for each in said([passed])] == [1, 9, 2]
    assert heard == down
    assert ready(session)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@unhurried
@given(
    st.lists(st.dictionaries(st.text(max_size=5), _JSON, max_size=4), max_size=5),
    st.lists(st.integers(1, 9), min_size=1),
)
def test_the_reader_finds_every_object(objects: list[dict[str, Any]], sizes: list[int]) -> None:
    reader, found = Reader(), []
    for piece in cut(b" ".join(json.dumps(each).encode() for each in objects), sizes):
        found += [json.loads(raw) for raw in reader.feed(piece)]
    assert found == objects
    assert not reader.unread().strip()


@unhurried
@given(st.lists(st.binary(max_size=60) | st.sampled_from([SET, CONTINUE, b"{", b'"', b"\\", b"}"]), max_size=12))
def test_the_reader_gives_every_byte_or_keeps_it(pieces: list[bytes]) -> None:
    reader, given_out = Reader(), b""
    try:
        for piece in pieces:
            for raw in reader.feed(piece):
                given_out += raw
    except ViolationError:
        pass
    whole = b"".join(pieces).translate(None, b" \t\r\n\x0b\x0c")
    assert whole.startswith(given_out.translate(None, b" \t\r\n\x0b\x0c"))


@unhurried
@given(
    st.lists(st.binary(max_size=60) | st.sampled_from([SET, CONTINUE, made(1), request(1, "x")]), max_size=12),
    st.sampled_from([ORDINARY, LOOKING, GUEST, ENDING]),
)
def test_whatever_comes_is_followed_or_ends(pieces: list[bytes], terms: Terms) -> None:
    session = Delve(terms)
    for number, piece in enumerate(pieces):
        flow: Flow = session.from_server(piece) if number % 3 == 2 else session.from_client(piece)
        assert isinstance(flow.over, bool)
        if flow.over:
            assert not terms.may_end or piece
            break
        assert isinstance(session.last_words("x"), bytes)
        assert isinstance(session.remarks(), str)
        assert isinstance(dict(session.kept), dict)

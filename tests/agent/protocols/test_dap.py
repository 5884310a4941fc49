"""The Debug Adapter Protocol's interpreter, fed with the bytes of conversations in pieces of every size."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocols.dap import OURS, Dap
from agent.protocols.interpreter import Event, Flow
from agent.terms import ORDINARY, Terms
from squash.dap import MAX_MESSAGE
from squash.model import Action
from squash.reasons import Reason
from tests.agent.protocols.speech import cut, dap, event, messages, request, response

LOOKING = Terms(read_only=True)
ENDING = Terms(allow_terminate=True)
SET = request(3, "setBreakpoints", source={"path": "/app/pricing.py"}, breakpoints=[{"line": 7}, {"line": 900}])
SET_DONE = response(4, 3, "setBreakpoints", breakpoints=[{"verified": True}, {"verified": False, "message": "no line"}])
DONE = request(5, "configurationDone")
DONE_DONE = response(6, 5, "configurationDone")

unhurried = settings(deadline=None)
"""On a busy machine any example may take its time."""


def ready(session: Dap) -> bool:
    return session.ready


def to_server(flow: Flow) -> list[dict[str, Any]]:
    return messages(b"".join(flow.server))


def to_client(flow: Flow) -> list[dict[str, Any]]:
    return messages(b"".join(flow.client))


# -- the ready gate -------------------------------------------------------------------------------------


def test_ready_once_breakpoints_and_configuration_are_answered() -> None:
    session = Dap()
    session.from_client(request(1, "initialize") + request(2, "attach") + SET)
    session.from_server(response(2, 1, "initialize"))
    assert not ready(session)
    session.from_client(DONE)
    session.from_server(DONE_DONE)
    assert not ready(session), "the breakpoints are not answered yet"
    session.from_server(SET_DONE)
    assert ready(session)
    assert session.remarks() == "breakpoints not verified: /app/pricing.py:900 (no line)"


def test_not_ready_without_configuration_done() -> None:
    session = Dap()
    session.from_client(SET)
    session.from_server(SET_DONE)
    assert not ready(session)


def test_not_ready_when_configuration_done_is_refused() -> None:
    session = Dap()
    session.from_client(DONE)
    session.from_server(response(6, 5, "configurationDone", success=False))
    assert not ready(session)


@pytest.mark.parametrize("command", ["setFunctionBreakpoints", "setExceptionBreakpoints"])
def test_it_waits_for_breakpoints_of_every_kind(command: str) -> None:
    session = Dap()
    session.from_client(request(3, command) + DONE)
    session.from_server(DONE_DONE)
    assert not ready(session)
    session.from_server(response(7, 3, command))
    assert ready(session)


@pytest.mark.parametrize("command", ["setDataBreakpoints", "setInstructionBreakpoints"])
def test_it_does_not_wait_for_what_pydevd_never_answers(command: str) -> None:
    session = Dap()
    session.from_client(request(3, command, breakpoints=[]) + DONE)
    session.from_server(DONE_DONE)
    assert ready(session)


def test_remarks_are_empty_when_all_breakpoints_are_verified() -> None:
    session = Dap()
    session.from_client(SET + DONE)
    session.from_server(
        response(4, 3, "setBreakpoints", breakpoints=[{"verified": True}, {"verified": True}]) + DONE_DONE
    )
    assert ready(session)
    assert session.remarks() == ""


def test_breakpoints_that_were_refused_as_a_whole_are_named() -> None:
    session = Dap()
    session.from_client(SET + request(8, "setFunctionBreakpoints", breakpoints=[{"name": "price"}]) + DONE)
    session.from_server(response(4, 3, "setBreakpoints", success=False, error={"id": 1}))
    session.from_server(response(5, 8, "setFunctionBreakpoints", breakpoints=[{"verified": False}]) + DONE_DONE)
    assert ready(session)
    assert session.remarks() == "breakpoints not verified: /app/pricing.py:7, /app/pricing.py:900, price"


def test_many_unverified_breakpoints_are_counted_rather_than_listed() -> None:
    session = Dap()
    places = [{"line": line} for line in range(1, 201)]
    session.from_client(request(3, "setBreakpoints", source={"path": "/a.py"}, breakpoints=places) + DONE)
    session.from_server(response(4, 3, "setBreakpoints", breakpoints=[{"verified": False}] * 200) + DONE_DONE)
    assert session.remarks() == "breakpoints not verified: /a.py:1, /a.py:2, /a.py:3, /a.py:4, /a.py:5 and 195 more"


def test_null_means_no_breakpoints() -> None:
    session = Dap()
    session.from_client(request(3, "setBreakpoints", source={"path": "/a.py"}, breakpoints=None) + DONE)
    session.from_server(response(4, 3, "setBreakpoints", breakpoints=None) + DONE_DONE)
    assert ready(session)
    assert session.remarks() == ""


@unhurried
@given(st.lists(st.integers(1, 40), min_size=1))
def test_it_does_not_care_how_the_bytes_are_cut(sizes: list[int]) -> None:
    session = Dap()
    up, down = request(1, "initialize") + SET + DONE, response(2, 1, "initialize") + SET_DONE + DONE_DONE
    assert b"".join(b"".join(session.from_client(piece).server) for piece in cut(up, sizes)) == up
    passed = b""
    for piece in cut(down, sizes):
        assert not ready(session)
        passed += b"".join(session.from_server(piece).client)
    assert passed == down
    assert ready(session)


# -- what nobody waits for ------------------------------------------------------------------------------


def begun(terms: Terms = ORDINARY) -> Dap:
    """A session whose gate is open; the last number is 6."""
    session = Dap(terms)
    session.from_client(DONE)
    session.from_server(DONE_DONE)
    assert ready(session)
    return session


def test_once_ready_parts_of_messages_pass_at_once() -> None:
    session, said = begun(), event(7, "output", output="x" * 1000)
    for piece in cut(said, [100]):
        assert session.from_server(piece).client == [piece]
    told, _ = messages(session.last_words("bye"))
    assert told["seq"] == 8


def test_nothing_is_said_in_the_middle_of_a_message() -> None:
    session = begun()
    session.from_server(event(7, "output")[:-1])
    assert session.last_words("bye") == b""


@unhurried
@given(st.integers(0, 200), st.lists(st.integers(1, 60), min_size=1))
def test_an_answer_that_is_waited_for_is_found_behind_what_passes(early: int, sizes: list[int]) -> None:
    session, before = begun(), event(7, "output", output="y" * 50) + event(8, "continued", threadId=1)
    passed = b"".join(session.from_server(before[:early]).client)
    session.from_client(request(3, "terminate"))
    done = response(9, 3, "disconnect")
    for piece in cut(before[early:] + done, sizes):
        passed += b"".join(session.from_server(piece).client)
    *others, answer, over = messages(passed)
    assert [said["seq"] for said in others] == [7, 8]
    assert (answer["seq"], answer["request_seq"], answer["command"]) == (9, 3, "terminate")
    assert (over["seq"], over["event"]) == (10, "terminated")


@unhurried
@given(st.lists(st.binary(max_size=200) | st.sampled_from([SET_DONE, DONE_DONE]), max_size=9))
def test_once_ready_garbage_is_never_lost_and_never_a_crash(pieces: list[bytes]) -> None:
    session = begun(ENDING)
    passed = b"".join(b"".join(session.from_server(piece).client) for piece in pieces)
    assert passed == b"".join(pieces)


def test_who_only_looks_hears_nothing_unread() -> None:
    session = Dap(LOOKING)
    session.from_client(DONE)
    session.from_server(DONE_DONE)
    assert ready(session)
    assert session.from_server(event(7, "output")[:-1]).client == []
    assert session.from_server(b"Content-Length: 1\r\n\r\nx").over


# -- the end of the process -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments", [{"terminateDebuggee": True}, {"suspendDebuggee": True}, {"terminateDebuggee": 1, "restart": True}]
)
def test_a_disconnect_that_would_end_the_process_only_disconnects(arguments: dict[str, Any]) -> None:
    session = Dap()
    flow = session.from_client(request(9, "disconnect", **arguments))
    [said] = to_server(flow)
    assert said == {
        "type": "request",
        "seq": 9,
        "command": "disconnect",
        "arguments": {"terminateDebuggee": False, "suspendDebuggee": False, "restart": False},
    }
    assert flow.events == [Event(Action.TERMINATION_REFUSED, "disconnect")]
    assert session.left


@pytest.mark.parametrize("command", ["terminate", "Terminate"])
def test_terminate_becomes_a_disconnect_and_the_client_hears_of_the_end(command: str) -> None:
    session = Dap()
    session.from_server(event(1, "stopped"))
    [said] = to_server(session.from_client(request(9, command)))
    assert (said["seq"], said["command"]) == (9, "disconnect")
    answered, over = to_client(session.from_server(response(2, 9, "disconnect")))
    assert (answered["seq"], answered["command"], answered["request_seq"]) == (2, command, 9)
    assert (over["seq"], over["type"], over["event"]) == (3, "event", "terminated")
    assert [said["seq"] for said in to_client(session.from_server(event(3, "thread") + event(4, "thread")))] == [4, 5]


@pytest.mark.parametrize("said", [request(9, "terminate"), request(9, "disconnect", terminateDebuggee=True)])
def test_where_it_is_allowed_the_process_really_ends(said: bytes) -> None:
    session = Dap(ENDING)
    flow = session.from_client(said)
    assert b"".join(flow.server) == said
    assert [found.action for found in flow.events] == [Action.TERMINATED]


def test_who_only_looks_ends_nothing_in_any_case() -> None:
    flow = Dap(Terms(read_only=True, allow_terminate=True)).from_client(request(9, "terminate"))
    assert to_server(flow)[0]["command"] == "disconnect"


# -- looking only ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "arguments", "shown"),
    [
        ("evaluate", {"expression": "secret()", "context": "repl"}, True),
        ("evaluate", {"expression": "secret()"}, True),
        ("evaluate", {"expression": "secret()", "context": "hover"}, False),
        ("evaluate", {"expression": "secret()", "context": "watch"}, False),
        ("EVALUATE", {"expression": "secret()"}, True),
        ("completions", {"text": "secret()."}, False),
        ("setVariable", {"variablesReference": 1, "name": "secret", "value": "2"}, True),
        ("setExpression", {"expression": "secret", "value": "2"}, True),
        ("writeMemory", {"memoryReference": "0", "data": ""}, True),
        ("goto", {"threadId": 1, "targetId": 1}, True),
        ("restartFrame", {"frameId": 1}, True),
        ("setDebuggerProperty", {}, True),
        ("launch", {}, True),
        ("restart", {}, True),
        ("somethingNew", {}, True),
        ("setBreakpoints", {"source": {"path": "/a.py"}, "breakpoints": [{"line": 1, "condition": "secret"}]}, True),
        ("setBreakpoints", {"source": {"path": "/a.py"}, "breakpoints": [{"line": 1, "hitCondition": "2"}]}, True),
        ("setBreakpoints", {"source": {"path": "/a.py"}, "breakpoints": [{"line": 1, "logMessage": "{x}"}]}, True),
        ("setBreakpoints", {"source": {"path": "/a.py"}, "breakpoints": [{"line": 1, "Condition": "secret"}]}, True),
        ("setFunctionBreakpoints", {"breakpoints": [{"name": "f", "condition": "secret"}]}, True),
        ("setExceptionBreakpoints", {"filters": [], "filterOptions": [{"filterId": "x", "condition": "1"}]}, True),
    ],
)
def test_what_would_change_something_is_refused_in_daps_own_form(
    command: str, arguments: dict[str, Any], shown: bool
) -> None:
    session = Dap(LOOKING)
    session.from_server(event(1, "initialized"))
    flow = session.from_client(request(7, command, **arguments))
    assert not flow.server
    [answer] = to_client(flow)
    error = answer["body"]["error"]
    assert (answer["seq"], answer["type"], answer["request_seq"]) == (2, "response", 7)
    assert (answer["success"], answer["command"], answer["message"]) == (False, command, Reason.READ_ONLY)
    assert error["format"].startswith("squash: this session may look, but change nothing")
    assert (error["showUser"], isinstance(error["id"], int)) == (shown, True)
    assert flow.events == [Event(Action.REFUSED, command.lower())]
    assert "secret" not in str(flow)
    assert [said["seq"] for said in to_client(session.from_server(event(2, "thread")))] == [3]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        *((name, {}) for name in ("initialize", "attach", "configurationDone", "threads", "stackTrace", "scopes")),
        *((name, {}) for name in ("variables", "source", "modules", "exceptionInfo", "disassemble", "readMemory")),
        *((name, {}) for name in ("continue", "next", "stepIn", "stepOut", "pause", "disconnect")),
        ("setBreakpoints", {"source": {"path": "/a.py"}, "breakpoints": [{"line": 1, "condition": ""}]}),
        ("setExceptionBreakpoints", {"filters": ["uncaught"]}),
    ],
)
def test_who_only_looks_may_look_and_steer(command: str, arguments: dict[str, Any]) -> None:
    flow = Dap(LOOKING).from_client(request(7, command, **arguments))
    assert to_server(flow)[0]["command"] == command
    assert not flow.client


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("pause", {"threadId": 1}),
        ("continue", {"threadId": 1}),
        ("stepIn", {"threadId": 1}),
        ("setBreakpoints", {"source": {"path": "/a.py"}, "breakpoints": [{"line": 7}]}),
        ("setExceptionBreakpoints", {"filters": ["raised"]}),
    ],
)
def test_guests_stop_and_steer_nothing(command: str, arguments: dict[str, Any]) -> None:
    asked = request(7, command, **arguments)
    assert to_server(Dap(LOOKING).from_client(asked))[0]["command"] == command
    flow = Dap(LOOKING._replace(looks_only=True)).from_client(asked)
    assert not flow.server
    [answer] = to_client(flow)
    assert (answer["message"], flow.events) == (Reason.READ_ONLY, [Event(Action.REFUSED, command.lower())])
    assert "only its owner stops and steers" in answer["body"]["error"]["format"]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [("threads", {}), ("configurationDone", {}), ("setExceptionBreakpoints", {"filters": []}), ("disconnect", {})],
)
def test_guests_look(command: str, arguments: dict[str, Any]) -> None:
    flow = Dap(LOOKING._replace(looks_only=True)).from_client(request(7, command, **arguments))
    assert to_server(flow)[0]["command"] == command


def test_a_key_that_stands_twice_deceives_nobody() -> None:
    twice = b'{"type":"request","seq":1,"command":"evaluate","command":"threads","Command":"evaluate"}'
    flow = Dap(LOOKING).from_client(b"Content-Length: %d\r\n\r\n" % len(twice) + twice)
    assert b"".join(flow.server).count(b"evaluate") == 0
    assert to_server(flow)[0]["command"] == "threads"


@pytest.mark.parametrize(
    "data",
    [
        b"501\t1\t1.1\nContent-Length: 2\r\n\r\n{}" + b"x" * 5000,
        b"Content-Length: 2\r\nContent-Length: 90\r\n\r\n{}",
        dap(type="nonsense", seq=1),
        b"Content-Length: 5\r\n\r\nhello",
    ],
)
@pytest.mark.parametrize("terms", [LOOKING, Terms(read_only=True, allow_terminate=True)])
def test_who_only_looks_and_cannot_be_followed_is_told_and_cut_off(data: bytes, terms: Terms) -> None:
    session = Dap(terms)
    session.from_server(event(1, "initialized"))
    flow = session.from_client(data)
    assert flow.over
    assert not flow.server
    assert session.lost
    assert flow.events == [Event(Action.UNFOLLOWED, "the session was ended")]
    told, over = to_client(flow)
    assert (told["event"], over["event"]) == ("output", "terminated")


def test_who_may_not_end_the_process_and_cannot_be_followed_is_cut_off_with_its_breakpoints_kept() -> None:
    session = Dap()
    flow = session.from_client(SET + b"Content-Length: 2\r\nContent-Length: 90\r\n\r\n{}")
    assert flow.over
    assert b"".join(flow.server) == SET
    assert flow.events[-1] == Event(Action.UNFOLLOWED, "the session was ended")
    for late in (session.from_client(request(9, "terminate")), session.from_server(event(2, "stopped"))):
        assert (late.over, late.server, late.client) == (True, [], [])
    assert list(session.kept) == [("setbreakpoints", "/app/pricing.py")]


@pytest.mark.parametrize("terms", [ORDINARY, LOOKING])
def test_a_server_that_cannot_be_followed_ends_the_session(terms: Terms) -> None:
    flow = Dap(terms).from_server(b"Content-Length: 5\r\n\r\nhello")
    assert flow.over
    assert [said["event"] for said in to_client(flow)] == ["output", "terminated"]


# -- numbers --------------------------------------------------------------------------------------------


def test_what_the_server_asks_by_a_new_number_is_answered_by_its_own() -> None:
    session = Dap(LOOKING)
    session.from_client(request(1, "evaluate"))
    session.from_client(request(2, "evaluate"))
    [asked] = to_client(session.from_server(dap(type="request", seq=1, command="runInTerminal", arguments={})))
    assert asked["seq"] == 3
    [answered] = to_server(session.from_client(response(3, 3, "runInTerminal")))
    assert answered["request_seq"] == 1


@unhurried
@given(st.lists(st.booleans(), max_size=30))
def test_the_client_sees_each_number_once_and_in_order(turns: list[bool]) -> None:
    session, seen, own = Dap(LOOKING), list[int](), 0
    for number, refused in enumerate(turns, 1):
        if refused:
            flow = session.from_client(request(number, "evaluate"))
        else:
            own += 1
            flow = session.from_server(event(own, "output"))
        seen += [said["seq"] for said in to_client(flow)]
    assert seen == list(range(1, len(turns) + 1))


# -- breakpoints of a session that broke off ------------------------------------------------------------


def set_again(terms: Terms = ORDINARY, *, condition: str = "") -> tuple[Dap, Flow]:
    first = Dap()
    point = {"line": 7} | ({"condition": condition} if condition else {})
    first.from_client(request(3, "setBreakpoints", source={"path": "/a.py"}, breakpoints=[point]))
    first.from_client(request(4, "setBreakpoints", source={"path": "/b.py"}, breakpoints=[{"line": 1}]))
    first.from_client(request(5, "setBreakpoints", source={"path": "/b.py"}, breakpoints=[]))
    second = Dap(terms, first.kept)
    second.from_client(request(1, "initialize"))
    second.from_server(response(1, 1, "initialize"))
    return second, second.from_client(DONE)


def test_breakpoints_that_the_client_does_not_set_anew_are_set_for_it() -> None:
    session, flow = set_again()
    ours, done = to_server(flow)
    assert (ours["seq"], ours["command"]) == (OURS, "setBreakpoints")
    assert ours["arguments"] == {"source": {"path": "/a.py"}, "breakpoints": [{"line": 7}]}
    assert done["command"] == "configurationDone"
    [told] = to_client(flow)
    assert (told["seq"], told["event"]) == (2, "output")
    assert "/a.py" in told["body"]["output"]
    session.from_server(response(2, 5, "configurationDone"))
    assert not ready(session), "ours is not answered yet"
    flow = session.from_server(response(3, OURS, "setBreakpoints", breakpoints=[{"verified": True}]))
    assert to_client(flow) == []
    assert ready(session)
    assert [said["seq"] for said in to_client(session.from_server(event(4, "thread")))] == [4]


def test_breakpoints_that_the_client_sets_anew_are_its_own() -> None:
    first = Dap()
    first.from_client(SET)
    second = Dap(kept=first.kept)
    second.from_client(request(3, "setBreakpoints", source={"path": "/app/pricing.py"}, breakpoints=[]))
    assert len(to_server(second.from_client(DONE))) == 1


def test_who_takes_leave_leaves_no_breakpoints_behind() -> None:
    session = Dap()
    session.from_client(SET + request(9, "disconnect"))
    assert session.kept == {}


def test_conditions_are_not_set_again_for_one_who_only_looks() -> None:
    _, flow = set_again(LOOKING, condition="x")
    assert [said["command"] for said in to_server(flow)] == ["configurationDone"]


# -- the record -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "arguments", "events"),
    [
        ("evaluate", {"expression": "secret", "context": "repl"}, [Event(Action.EVALUATED, "repl")]),
        ("evaluate", {"expression": "secret", "context": "secret"}, [Event(Action.EVALUATED)]),
        ("setVariable", {"name": "secret", "value": "secret"}, [Event(Action.CHANGED, "setVariable")]),
        ("continue", {"threadId": 1}, [Event(Action.RESUMED, "continue")]),
        ("stepIn", {"threadId": 1}, [Event(Action.RESUMED, "step")]),
        ("pause", {"threadId": 1}, [Event(Action.PAUSED)]),
        (
            "setBreakpoints",
            {"source": {"path": "/a"}, "breakpoints": [{"line": 1}]},
            [Event(Action.BREAKPOINTS, "1 in /a")],
        ),
        ("setBreakpoints", {"source": {"path": "/a"}, "breakpoints": []}, []),
        ("variables", {"variablesReference": 1}, []),
    ],
)
def test_what_is_written_down(command: str, arguments: dict[str, Any], events: list[Event]) -> None:
    assert Dap().from_client(request(1, command, **arguments)).events == events


# -- what is no DAP -------------------------------------------------------------------------------------

NO_DAP = [
    b"Content-Length: 5\r\n\r\nhello",
    b"Content-Length: %d\r\n\r\n" % (MAX_MESSAGE + 1),
    b"Content-Length: minus\r\n\r\n{}",
    b"x" * 5000,
    b"Content-Length: 3\r\n\r\n\xff\xfe\xfd",
    b"Content-Length: 2\r\n\r\n[]",
    b"Content-Length: 200000\r\n\r\n" + b"[" * 200000,
]


@pytest.mark.parametrize("data", NO_DAP)
def test_what_is_no_dap_passes_where_nothing_would_be_refused(data: bytes) -> None:
    session = Dap(ENDING)
    before = request(1, "initialize")
    first, second = session.from_client(before + data[:30]), session.from_client(data[30:])
    assert b"".join(first.server + second.server) == before + data
    assert session.lost
    assert first.events + second.events == [Event(Action.UNFOLLOWED, "it goes on, unread")]
    assert not any((first.over, second.over))
    session = Dap(ENDING)
    assert b"".join(session.from_server(data).client) == data


@unhurried
@given(
    st.lists(st.binary(max_size=200) | st.sampled_from([SET, SET_DONE, DONE, DONE_DONE, *NO_DAP[:-1]]), max_size=9),
    st.lists(st.integers(1, 300), min_size=1),
)
def test_garbage_is_never_lost_and_never_a_crash(parts: list[bytes], sizes: list[int]) -> None:
    for up in (True, False):
        session, passed = Dap(ENDING), b""
        for piece in cut(b"".join(parts), sizes):
            flow = session.from_client(piece) if up else session.from_server(piece)
            passed += b"".join(flow.server if up else flow.client)
        held = b"" if session.lost else session._held_back()[not up]
        assert passed + held == b"".join(parts)


@unhurried
@given(st.lists(st.binary(max_size=200), max_size=20))
def test_garbage_never_makes_it_ready(pieces: list[bytes]) -> None:
    session, looking = Dap(), Dap(LOOKING)
    for piece in pieces:
        for each in (session, looking):
            each.from_client(piece)
            each.from_server(piece)
    assert not ready(session)
    assert not ready(looking)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
COMMANDS = st.sampled_from(
    ["evaluate", "setBreakpoints", "setFunctionBreakpoints", "configurationDone", "disconnect", "terminate", "x"]
)
LIES = st.builds(
    lambda kind, seq, command, to, success, arguments, body: dap(
        type=kind, seq=seq, command=command, request_seq=to, success=success, arguments=arguments, body=body
    ),
    st.sampled_from(["request", "response", "event", "", "x"]),
    st.integers(-3, 9),
    COMMANDS,
    st.integers(-3, 9),
    st.booleans() | st.none(),
    JSON | st.fixed_dictionaries({"source": JSON, "breakpoints": st.lists(JSON, max_size=3)}),
    JSON | st.fixed_dictionaries({"breakpoints": st.lists(JSON, max_size=3)}),
)


@unhurried
@given(st.lists(st.tuples(st.booleans(), LIES), max_size=20), st.sampled_from([ORDINARY, LOOKING, ENDING]))
def test_any_json_in_any_place_is_no_crash_and_nothing_gets_stuck(said: list[tuple[bool, bytes]], terms: Terms) -> None:
    session = Dap(terms)
    for up, data in said:
        flow = session.from_client(data) if up else session.from_server(data)
        assert flow.server or flow.client or flow.over or session.lost
        session.remarks()
        assert session.kept is not None
    session.last_words("that is all")


@unhurried
@given(st.integers(0, 400), st.lists(st.integers(1, 60), min_size=1))
def test_a_length_that_lies_is_found_out_or_waited_for(length: int, sizes: list[int]) -> None:
    lie = b"Content-Length: %d\r\n\r\n" % length + SET.partition(b"\r\n\r\n")[2]
    session, passed = Dap(), b""
    for piece in cut(lie + DONE + DONE + DONE, sizes):
        passed += b"".join(session.from_client(piece).server)
    assert session.lost or passed
    assert not ready(session)


# -- parting --------------------------------------------------------------------------------------------


def test_the_last_words_end_the_session_for_the_client() -> None:
    session = Dap()
    session.from_server(event(1, "initialized"))
    told, over = messages(session.last_words("bob has taken over"))
    assert (told["seq"], told["event"]) == (2, "output")
    assert told["body"]["output"] == "squash: bob has taken over\n"
    assert (over["seq"], over["event"]) == (3, "terminated")


def test_who_cannot_come_in_is_told_why_in_answer_to_its_first_request() -> None:
    said = request(1, "initialize", adapterID="x")
    assert Dap.turned_away(said[:40], Reason.SESSION_BUSY, "ann holds it") == b""
    [answer] = messages(Dap.turned_away(said, Reason.SESSION_BUSY, "ann holds it"))
    assert (answer["success"], answer["request_seq"], answer["message"]) == (False, 1, "session_busy")
    assert answer["body"]["error"]["format"] == "squash: ann holds it"
    [over] = messages(Dap.turned_away(b"Content-Length: 1\r\n\r\nx", Reason.SESSION_BUSY, "no"))
    assert over["event"] == "terminated"

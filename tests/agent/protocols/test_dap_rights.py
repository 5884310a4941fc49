"""Who may do what in a session of the Debug Adapter Protocol: end the process, change, or only look."""

from typing import Any

import pytest

from agent.protocols.dap import Dap
from agent.protocols.interpreter import Event
from agent.terms import ORDINARY, Terms
from squash.model import Action
from squash.reasons import Reason
from tests.agent.protocols.dap_session import ENDING, LOOKING, SET, to_client, to_server
from tests.agent.protocols.speech import dap, event, request, response

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

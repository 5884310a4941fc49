"""The Debug Adapter Protocol's interpreter, fed with the bytes of conversations in pieces of every size."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.protocols.dap import OURS, Dap
from agent.protocols.interpreter import Event, Flow
from agent.terms import ORDINARY, Terms
from squash.model import Action
from squash.reasons import Reason
from tests.agent.protocols.dap_session import (
    DONE,
    DONE_DONE,
    ENDING,
    LOOKING,
    SET,
    SET_DONE,
    begun,
    ready,
    to_client,
    to_server,
    unhurried,
)
from tests.agent.protocols.speech import cut, dap, event, messages, request, response

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

"""What is no Debug Adapter Protocol, or lies: nothing is lost, nobody waits, nothing crashes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.protocols.dap import Dap
from agent.protocols.interpreter import Event
from agent.terms import ORDINARY, Terms
from squash.dap import MAX_MESSAGE
from squash.model import Action
from tests.agent.protocols.dap_session import DONE, DONE_DONE, ENDING, LOOKING, SET, SET_DONE, ready, unhurried
from tests.agent.protocols.speech import cut, dap, request

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

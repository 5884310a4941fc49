"""The interpreter of the GDB remote serial protocol: it watches, and passes on what comes as it comes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocols.gdb import Gdb
from agent.protocols.interpreter import Event
from agent.rsp import LONGEST
from agent.terms import ORDINARY, Terms
from squash.model import Action
from squash.reasons import Reason
from tests.agent.protocols.speech import cut, packet

unhurried = settings(deadline=None)
"""On a busy machine any example may take its time."""


def ready(session: Gdb) -> bool:
    return session.ready


@pytest.mark.parametrize("body", [b"c", b"C05", b"vCont;c", b"vCont;c:p1.-1", b"vCont;s:p1.1;c", b"vCont;C05:1"])
def test_ready_at_the_first_continue(body: bytes) -> None:
    session = Gdb()
    session.from_client(b"+" + packet(b"qSupported:x") + packet(b"Z0,4011b6,1"))
    assert not ready(session)
    session.from_client(packet(body))
    assert ready(session)
    assert session.remarks() == ""


@pytest.mark.parametrize("body", [b"vCont?", b"vCont;s:p1.1", b"s", b"D", b"?", b"g", b"m401000,4", b"X401000,3:$c"])
def test_not_ready_before(body: bytes) -> None:
    session = Gdb()
    session.from_client(packet(body))
    assert not ready(session)


def test_breakpoints_that_were_refused_are_named() -> None:
    session = Gdb()
    for address, answer in ((0x4011B6, b"E01"), (0x401200, b"OK"), (0x401300, b"E.no room"), (0x401400, b"")):
        session.from_client(packet(b"Z0,%x,1" % address))
        session.from_server(b"+" + packet(answer))
    session.from_client(packet(b"Z0,401300,1"))
    session.from_server(packet(b"OK") + packet(b"E01"))
    session.from_client(packet(b"vCont;c"))
    assert ready(session)
    assert session.remarks() == "breakpoints that gdbserver did not take: 0x4011b6"


def test_many_that_were_refused_are_counted() -> None:
    session = Gdb()
    for address in range(1, 8):
        session.from_client(packet(b"Z1,%x,1" % address))
        session.from_server(packet(b"E01"))
    assert session.remarks() == "breakpoints that gdbserver did not take: 0x1, 0x2, 0x3, 0x4, 0x5 and 2 more"


@unhurried
@given(st.lists(st.integers(1, 9), min_size=1))
def test_it_does_not_care_how_the_bytes_are_cut(sizes: list[int]) -> None:
    session, passed = Gdb(), b""
    before = packet(b"qSupported") + b"+" + packet(b"Z0,1,1") + b"\x03"
    for piece in cut(before, sizes):
        passed += b"".join(session.from_client(piece).server)
    assert not ready(session)
    for piece in cut(packet(b"vCont;c"), sizes):
        passed += b"".join(session.from_client(piece).server)
    assert ready(session)
    assert passed == before + packet(b"vCont;c")


@unhurried
@given(st.lists(st.binary(max_size=100), max_size=20), st.sampled_from([ORDINARY, Terms(read_only=True)]))
def test_whatever_comes_passes(pieces: list[bytes], terms: Terms) -> None:
    session = Gdb(terms)
    for piece in pieces:
        assert b"".join(session.from_client(piece).server) == piece
        assert b"".join(session.from_server(piece).client) == piece


def test_a_packet_without_end_cannot_be_followed() -> None:
    session = Gdb(Terms(allow_terminate=True))
    flow = session.from_client(b"$" + b"x" * (LONGEST + 1))
    assert not flow.over
    assert session.lost
    assert flow.events == [Event(Action.UNFOLLOWED, "it goes on, unread")]
    assert b"".join(session.from_client(b"more").server) == b"more"
    for terms in (ORDINARY, Terms(read_only=True)):
        flow = Gdb(terms).from_client(b"$" + b"x" * (LONGEST + 1))
        assert flow.over
        assert flow.events == [Event(Action.UNFOLLOWED, "the session was ended")]


@pytest.mark.parametrize(
    ("body", "terms", "events"),
    [
        (b"vCont;c", ORDINARY, [Event(Action.RESUMED, "continue")]),
        (b"s", ORDINARY, [Event(Action.RESUMED, "step")]),
        (b"M4000,1:cc", ORDINARY, [Event(Action.CHANGED, "memory")]),
        (b"P10=00", ORDINARY, [Event(Action.CHANGED, "registers")]),
        (b"P10=00", Terms(read_only=True), [Event(Action.REFUSED, "registers")]),
        (b"vSomethingNew", Terms(read_only=True), [Event(Action.REFUSED, "")]),
        (b"m4000,4", ORDINARY, []),
        (b"k", ORDINARY, [Event(Action.TERMINATION_REFUSED, "kill")]),
        (b"vKill;7b", Terms(allow_terminate=True), [Event(Action.TERMINATED, "kill")]),
        (b"D", ORDINARY, []),
        (b"", ORDINARY, []),
        (b"", Terms(read_only=True), [Event(Action.REFUSED, "")]),
    ],
)
def test_what_is_written_down(body: bytes, terms: Terms, events: list[Event]) -> None:
    assert Gdb(terms).from_client(packet(body)).events == events


@pytest.mark.parametrize(("body", "left"), [(b"D", True), (b"D;7b", True), (b"k", True), (b"c", False), (b"", False)])
def test_taking_leave_is_seen(body: bytes, left: bool) -> None:
    session = Gdb()
    session.from_client(packet(body))
    assert session.left is left


def test_only_a_gdb_that_waits_for_a_stop_is_told_something_unasked() -> None:
    session = Gdb()
    session.from_client(packet(b"g"))
    assert session.last_words("over") == b""
    session.from_client(packet(b"vCont;c"))
    assert session.last_words("over") == packet(b"O" + b"squash: over\n".hex().encode())


def test_who_cannot_come_in_is_told_why_in_answer_to_its_first_packet() -> None:
    assert Gdb.turned_away(b"+$qSupp", Reason.SESSION_BUSY, "ann holds it") == b""
    assert Gdb.turned_away(b"+" + packet(b"qSupported"), Reason.SESSION_BUSY, "ann holds it") == (
        b"+" + packet(b"E.ann holds it")
    )

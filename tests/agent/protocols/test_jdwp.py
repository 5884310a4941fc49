"""The interpreter of the Java Debug Wire Protocol, fed with the bytes of conversations in pieces of every size."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.protocols.interpreter import Event, Flow
from agent.protocols.jdwp import Jdwp
from agent.protocols.jdwp_packets import (
    HANDSHAKE,
    HEADER,
    LONGEST_COMMAND,
    LOOKED_AT,
    NOT_IMPLEMENTED,
    REPLY,
    Packet,
    Reader,
    ViolationError,
    command,
    failure,
    wish,
)
from agent.protocols.jdwp_rules import CLASS_PREPARE, DISPOSE, EXIT, RESUME, SET_EVENT, SUSPEND
from agent.terms import ORDINARY, Terms
from squash.model import Action
from squash.reasons import Reason
from tests.agent.protocols.speech import cut

LOOKING = Terms(read_only=True)
GUEST = Terms(read_only=True, looks_only=True)
ENDING = Terms(allow_terminate=True)
VERSION, SET_VALUES, INVOKE = (1, 1), (16, 2), (9, 6)
NONE, THREAD, ALL = 0, 1, 2

unhurried = settings(deadline=None)
"""On a busy machine any example may take its time."""


def text(value: str) -> bytes:
    return struct.pack(">I", len(value)) + value.encode()


def event(ident: int, kind: int, suspends: int, *modifiers: bytes) -> bytes:
    return command(ident, SET_EVENT, struct.pack(">BBI", kind, suspends, len(modifiers)) + b"".join(modifiers))


def point(ident: int, suspends: int = THREAD) -> bytes:
    return event(ident, 2, suspends, b"\x07" + bytes(25))


def awaiting(ident: int, name: str, suspends: int = ALL) -> bytes:
    return event(ident, CLASS_PREPARE, suspends, struct.pack(">BI", 1, 1), b"\x05" + text(name))


def reply(ident: int, error: int = 0, body: bytes = b"") -> bytes:
    return HEADER.pack(HEADER.size + len(body), ident, REPLY, error >> 8, error & 0xFF) + body


def begun(terms: Terms = ORDINARY) -> Jdwp:
    """A session past the handshake."""
    session = Jdwp(terms)
    flow = session.from_client(HANDSHAKE)
    assert (flow.client, flow.server) == ([HANDSHAKE], [])
    return session


def ready(session: Jdwp) -> bool:
    return session.ready


def calm(session: Jdwp) -> bool:
    return session.calm()


def said(flow: Flow) -> tuple[bytes, bytes]:
    return b"".join(flow.server), b"".join(flow.client)


# -- the ready gate -------------------------------------------------------------------------------------


def test_ready_when_it_resumes_and_every_breakpoint_is_answered() -> None:
    session = begun()
    session.from_client(point(1) + point(2) + command(3, RESUME))
    session.from_server(reply(1))
    assert not ready(session)
    session.from_server(reply(2) + reply(3))
    assert ready(session)
    assert session.remarks() == ""


def test_ready_when_it_sets_no_more_breakpoints() -> None:
    session = begun()
    session.from_client(point(1))
    assert session.stirred == 1
    assert not calm(session)
    session.from_server(reply(1))
    assert session.stirred == 2
    assert not ready(session)
    assert calm(session)
    assert ready(session)


def test_it_waits_for_what_is_still_asked() -> None:
    session = begun()
    session.from_client(point(1) + command(2, VERSION))
    session.from_server(reply(1))
    assert not calm(session)
    assert not ready(session)
    session.from_server(reply(2))
    assert calm(session)
    assert ready(session)


@pytest.mark.parametrize(
    "asked",
    [
        event(1, CLASS_PREPARE, NONE),
        event(1, CLASS_PREPARE, ALL),
        event(1, CLASS_PREPARE, ALL, b"\x06" + text("java.*")),
        event(1, 4, ALL, b"\x08" + bytes(10)),
        event(1, 6, NONE),
        event(1, 1, THREAD, b"\x0a" + bytes(16)),
        event(1, 2, NONE, b"\x07" + bytes(25)),
        command(1, SET_EVENT),
        command(1, VERSION),
    ],
)
def test_what_debuggers_ask_for_by_themselves_opens_nothing(asked: bytes) -> None:
    """JDI asks to be told of each class, jdb of exceptions, editors of threads, as soon as they are there."""
    session = begun()
    session.from_client(asked)
    session.from_server(reply(1))
    assert session.stirred == 0
    assert not ready(session)


@pytest.mark.parametrize(
    "asked", [awaiting(1, "shop.*"), event(1, CLASS_PREPARE, THREAD, b"\x04" + bytes(8)), event(1, 21, ALL)]
)
def test_what_developers_ask_for_counts(asked: bytes) -> None:
    session = begun()
    session.from_client(asked)
    assert session.stirred == 1


def test_classes_that_are_not_loaded_are_named() -> None:
    session = begun()
    session.from_client(awaiting(1, "shop.Cart") + awaiting(2, "shop.Rebate") + command(3, RESUME))
    session.from_server(reply(1) + reply(2))
    assert ready(session)
    assert session.remarks() == "no breakpoint is set yet: they wait for shop.Cart, shop.Rebate to be loaded"


def test_many_are_counted() -> None:
    session = begun()
    session.from_client(b"".join(awaiting(number, f"C{number}") for number in range(7)))
    session.from_server(b"".join(reply(number) for number in range(7)))
    assert session.remarks().endswith("C3, C4 and 2 more to be loaded")


def test_refused_breakpoints_are_counted_with_their_error() -> None:
    session = begun()
    session.from_client(point(1) + point(2) + point(3) + command(4, RESUME))
    session.from_server(reply(1, 24) + reply(2, 21) + reply(3))
    assert session.remarks() == "breakpoints that the JVM did not take: 2 (JDWP error 21, 24)"


def test_a_guest_opens_no_gate() -> None:
    session = begun(GUEST)
    session.from_client(command(1, RESUME) + point(2) + event(3, 2, NONE))
    session.from_server(reply(3))
    assert calm(session)
    assert not ready(session)


# -- what it may ----------------------------------------------------------------------------------------


def test_exit_becomes_dispose() -> None:
    session = begun()
    flow = session.from_client(command(7, EXIT, bytes(4)) + command(8, VERSION))
    assert said(flow) == (command(7, DISPOSE) + command(8, VERSION), b"")
    assert flow.events == [Event(Action.TERMINATION_REFUSED, "Exit")]
    assert session.left


def test_exit_is_passed_on_where_that_is_allowed() -> None:
    flow = begun(ENDING).from_client(command(7, EXIT, bytes(4)))
    assert said(flow) == (command(7, EXIT, bytes(4)), b"")
    assert flow.events == [Event(Action.TERMINATED, "Exit")]


@pytest.mark.parametrize(
    ("what", "terms", "name"),
    [
        (SET_VALUES, LOOKING, "SetLocalValues"),
        (INVOKE, LOOKING, "InvokeMethod"),
        ((77, 1), LOOKING, "command 77.1"),
        (RESUME, GUEST, "Resume"),
        (SUSPEND, GUEST, "Suspend"),
    ],
)
def test_what_is_refused_is_refused_in_the_protocols_form(what: tuple[int, int], terms: Terms, name: str) -> None:
    flow = begun(terms).from_client(command(7, what, bytes(2 * LOOKED_AT)) + command(8, VERSION))
    assert said(flow) == (command(8, VERSION), failure(7))
    assert failure(7) == reply(7, NOT_IMPLEMENTED)
    assert flow.events == [Event(Action.REFUSED, name)]


@pytest.mark.parametrize("raw", [command(1, RESUME), command(1, SUSPEND), point(1), command(1, (16, 1))])
def test_who_looks_may_steer(raw: bytes) -> None:
    assert said(begun(LOOKING).from_client(raw)) == (raw, b"")


@pytest.mark.parametrize(
    ("raw", "noted"),
    [
        (command(1, SET_VALUES), Event(Action.CHANGED, "SetLocalValues")),
        (command(1, INVOKE), Event(Action.EVALUATED, "InvokeMethod")),
        (command(1, RESUME), Event(Action.RESUMED, "Resume")),
        (command(1, SUSPEND), Event(Action.PAUSED, "Suspend")),
        (point(1), Event(Action.BREAKPOINTS, "1 breakpoint")),
    ],
)
def test_what_is_written_down(raw: bytes, noted: Event) -> None:
    assert begun().from_client(raw).events == [noted]


# -- bytes ----------------------------------------------------------------------------------------------


def test_who_does_not_greet_is_sent_away() -> None:
    session = Jdwp()
    flow = session.from_client(b"GET / HTTP/1.1\r\n")
    assert flow.over
    assert said(flow) == (b"", b"")
    assert flow.events == [Event(Action.UNFOLLOWED, "the session was ended")]
    assert session.from_client(b"more").over


@pytest.mark.parametrize("length", [0, 10, LONGEST_COMMAND + 1, 0xFFFF_FFFF])
def test_a_length_that_cannot_be_ends_the_session(length: int) -> None:
    session = begun()
    flow = session.from_client(command(1, VERSION) + HEADER.pack(length, 2, 0, 1, 1))
    assert flow.over
    assert said(flow) == (command(1, VERSION), b"")


def test_unread_it_goes_on_where_all_is_allowed() -> None:
    session = begun(ENDING)
    strange = HEADER.pack(3, 2, 0, 1, 1)
    flow = session.from_client(command(1, VERSION) + strange)
    assert said(flow) == (command(1, VERSION) + strange, b"")
    assert flow.events == [Event(Action.UNFOLLOWED, "it goes on, unread")]
    assert said(session.from_client(b"more")) == (b"more", b"")


def test_long_packets_pass_as_they_come() -> None:
    """Nothing of a memory dump is kept."""
    session = begun()
    raw = reply(1, 0, bytes(3_000_000))
    passed = 0
    for piece in cut(raw, [65_536]):
        passed += len(said(session.from_server(piece))[1])
        assert len(session._server.unread()) <= HEADER.size + LOOKED_AT
    assert passed == len(raw)


packets = st.one_of(
    st.builds(
        command,
        st.integers(0, 9),
        st.tuples(st.integers(0, 20), st.integers(0, 20)),
        st.binary(max_size=LOOKED_AT + 90),
    ),
    st.builds(point, st.integers(0, 9)),
    st.builds(reply, st.integers(0, 9), st.integers(0, 600), st.binary(max_size=LOOKED_AT + 90)),
)


@unhurried
@given(st.lists(packets, max_size=12), st.lists(st.integers(1, 700), min_size=1))
def test_it_does_not_care_how_the_bytes_are_cut(whole: list[bytes], sizes: list[int]) -> None:
    together, apart = begun(LOOKING), begun(LOOKING)
    flow = together.from_client(b"".join(whole))
    pieces = [apart.from_client(piece) for piece in cut(b"".join(whole), sizes)]
    assert b"".join(said(piece)[0] for piece in pieces) == said(flow)[0]
    assert b"".join(said(piece)[1] for piece in pieces) == said(flow)[1]
    assert [event for piece in pieces for event in piece.events] == flow.events
    assert ready(together) is ready(apart)
    before = together.from_server(b"".join(whole))
    after = [apart.from_server(piece) for piece in cut(b"".join(whole), sizes)]
    assert b"".join(said(piece)[1] for piece in after) == said(before)[1] == b"".join(whole)
    assert (ready(together), together.remarks(), together.calm()) == (ready(apart), apart.remarks(), apart.calm())


@unhurried
@given(
    st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=20),
    st.sampled_from([ORDINARY, LOOKING, GUEST, ENDING]),
    st.booleans(),
)
def test_nothing_that_comes_breaks_it(said_by: list[tuple[bool, bytes]], terms: Terms, greets: bool) -> None:
    session = begun(terms) if greets else Jdwp(terms)
    for client, data in said_by:
        flow = session.from_client(data) if client else session.from_server(data)
        session.calm()
        session.remarks()
        assert flow.over == bool(session.lost and not terms.may_end)


@unhurried
@given(st.binary(max_size=LOOKED_AT))
def test_any_body_of_a_wish_is_read(body: bytes) -> None:
    wish(body)


@unhurried
@given(st.lists(packets, min_size=1, max_size=5))
def test_a_reader_gives_out_all_that_came(whole: list[bytes]) -> None:
    reader, found = Reader(greeted=True), b""
    for item in reader.feed(b"".join(whole)):
        assert item is not None
        found += item.raw if isinstance(item, Packet) else item
    assert found == b"".join(whole)
    assert reader.unread() == b""


def test_a_reader_tells_what_it_has_before_what_it_cannot_read() -> None:
    reader = Reader(greeted=True)
    found = reader.feed(reply(1) + HEADER.pack(1, 2, 0, 1, 1))
    assert next(found)
    with pytest.raises(ViolationError, match="a packet of 1 bytes"):
        next(found)


def test_who_cannot_come_in_is_told_in_place_of_the_handshake() -> None:
    assert Jdwp.turned_away(HANDSHAKE[:5], Reason.SESSION_BUSY, "ann holds it") == b""
    assert Jdwp.turned_away(HANDSHAKE, Reason.SESSION_BUSY, "ann holds it") == b"squash: ann holds it\n"
    assert begun().last_words("over") == b""

"""What the guard understands of the GDB remote serial protocol."""

import pytest

from agent.rsp import Conversation, Point, Splitter, ViolationError, body, expand, packet

STREAM = b"+" + packet(b"OK") + b"\x03-" + packet(b"X10,3:a\x03b+") + b"%Stop:T05#00junk$m1,2"
TOKENS = [b"+", b"$OK#9a", b"\x03", b"-", packet(b"X10,3:a\x03b+"), b"%Stop:T05#00"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_stream_is_cut_into_tokens_however_it_arrives(size: int) -> None:
    splitter = Splitter()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert [token for piece in pieces for token in splitter.feed(piece)] == TOKENS
    assert splitter.feed(b"#cc") == [b"$m1,2#cc"]


def test_a_packet_without_end_is_refused() -> None:
    splitter = Splitter()
    with pytest.raises(ViolationError, match="without end"):
        splitter.feed(b"$" + b"x" * 5_000_000)


def test_a_packet_has_the_checksum_of_the_manual() -> None:
    assert packet(b"OK") == b"$OK#9a"
    assert body(packet(b"vCont?")) == b"vCont?"


@pytest.mark.parametrize(
    ("text", "meant"), [(b"OK", b"OK"), (b"0* ", b"0000"), (b"a0* b1*#c", b"a0000b1111111c"), (b"0**", b"0" * 14)]
)
def test_run_length_encoding_is_expanded(text: bytes, meant: bytes) -> None:
    assert expand(text) == meant


def test_points_are_read_and_written() -> None:
    assert Point.parse(b"Z0,55a4,1") == Point(0, 0x55A4, 1)
    assert Point.parse(b"z2,55a4,8;X1,00") == Point(2, 0x55A4, 8)
    assert Point.parse(b"Zx") is None
    assert Point(0, 0x55A4, 1).removal == b"z0,55a4,1"


def talked(*lines: tuple[bytes, bytes]) -> Conversation:
    talk = Conversation(123)
    for request, answer in lines:
        talk.sends(request)
        talk.receives(answer)
    return talk


def test_what_was_negotiated_is_known() -> None:
    assert Conversation(123).detach == b"D"
    talk = talked((b"qSupported:multiprocess+", b"swbreak+;multiprocess+"), (b"QStartNoAckMode", b"OK"))
    assert talk.detach == b"D;7b"
    assert not talk.acks
    assert talked((b"QStartNoAckMode", b"")).acks


def test_breakpoints_are_known_until_they_are_removed() -> None:
    inserted = (b"Z0,10,1", b"OK")
    assert list(talked(inserted, (b"Z1,20,1", b""), (b"Z0,30,1", b"E01")).points) == [Point(0, 16, 1)]
    assert list(talked(inserted, (b"z0,10,1", b"E01")).points) == [Point(0, 16, 1)]
    assert not talked(inserted, (b"z0,10,1", b"OK")).points


def test_a_breakpoint_counts_before_it_is_confirmed() -> None:
    talk = Conversation(123)
    talk.sends(b"Z0,10,1")
    assert list(talk.points) == [Point(0, 16, 1)]


@pytest.mark.parametrize("resume", [b"c", b"C05", b"s", b"S0b;10", b"vCont;c", b"vCont;s:p1.1;c"])
def test_the_process_runs_from_the_resumption_to_the_stop(resume: bytes) -> None:
    talk = Conversation(123)
    talk.sends(resume)
    assert talk.running
    talk.receives(b"O68690a")
    assert talk.running
    with pytest.raises(ViolationError, match="while the process runs"):
        talk.sends(b"g")


def test_a_stop_is_the_answer_to_a_resumption() -> None:
    talk = talked((b"vCont;c", b"T05thread:p7b.7b;"))
    assert (talk.running, talk.asked) == (False, None)


def test_asking_for_resumptions_is_none() -> None:
    talk = Conversation(123)
    talk.sends(b"vCont?")
    assert not talk.running


def test_the_end_of_the_process_is_seen() -> None:
    assert talked((b"vCont;c", b"W00;process:7b")).exited
    assert talked((b"vCont;c", b"X09")).exited


def test_children_are_known_until_they_are_detached() -> None:
    forked = (b"vCont;c", b"T05fork:p1c8.1c8;06:00;thread:p7b.7b;")
    assert talked(forked).children == {0x1C8}
    assert not talked(forked, (b"D;1c8", b"OK")).children


def test_a_new_program_has_no_breakpoints_of_the_old() -> None:
    assert not talked((b"Z0,10,1", b"OK"), (b"vCont;c", b"T05exec:2f62;thread:p7b.7b;")).points

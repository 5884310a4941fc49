"""The base protocol of DAP: whatever pieces the bytes come in, and whatever their lengths claim."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.dap import MAX_HEADERS, MAX_MESSAGE, Reader, Skimmer, ViolationError, decode, frame, message

MESSAGES = st.lists(st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=20), max_size=4), max_size=6)
SAFE = -(2**63), 2**64 - 1


def pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    """The data in pieces of these sizes, over and over."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        size = sizes[len(found) % len(sizes)]
        found.append(data[at : at + size])
        at += size
    return found


@given(st.lists(st.binary(max_size=80), max_size=8), st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_split_and_merged_pieces_are_the_same_messages(bodies: list[bytes], sizes: list[int]) -> None:
    reader = Reader()
    wire = b"".join(map(frame, bodies))
    assert [raw for piece in pieces(wire, sizes) for raw in reader.feed(piece)] == bodies
    assert reader.unread() == b""


@given(st.binary(max_size=60), st.integers(1, 100))
def test_a_length_too_long_waits_and_one_too_short_leaves_the_rest(body: bytes, lie: int) -> None:
    reader = Reader()
    assert list(reader.feed(b"Content-Length: %d\r\n\r\n" % (len(body) + lie) + body)) == []
    assert list(reader.feed(b"x" * lie)) == [body + b"x" * lie]
    short = Reader()
    assert list(short.feed(b"Content-Length: 0\r\n\r\n" + b"y" * lie)) == [b""]
    assert short.unread() == b"y" * lie


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_garbage_is_refused_or_waited_for_and_nothing_else(given: list[bytes]) -> None:
    reader = Reader()
    try:
        for data in given:
            for raw in reader.feed(data):
                decode(raw)
    except ViolationError:
        return


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: %d" % (MAX_MESSAGE + 1),
        b"Content-Length: minus",
        b"Content-Length: -1",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"X-Content-Length: 2",
        b"",
        b"x" * (MAX_HEADERS - 3),
    ],
)
def test_headers_that_cannot_be_used(head: bytes) -> None:
    with pytest.raises(ViolationError):
        list(Reader().feed(head + b"\r\n\r\n{}"))


def test_headers_without_an_end() -> None:
    reader = Reader()
    assert list(reader.feed(b"x" * (MAX_HEADERS - 1))) == []
    with pytest.raises(ViolationError, match="no end"):
        list(reader.feed(b"x"))


def test_headers_may_be_several_and_in_any_case() -> None:
    assert list(Reader().feed(b"Content-Type: utf8\r\ncontent-LENGTH:2 \r\n\r\n{}")) == [b"{}"]


@given(MESSAGES)
def test_what_is_written_is_what_is_read(messages: list[dict[str, object]]) -> None:
    fitting = [
        {key: value for key, value in each.items() if not isinstance(value, int) or SAFE[0] <= value <= SAFE[1]}
        for each in messages
    ]
    wire = b"".join(message(**each) for each in fitting)
    assert [decode(raw) for raw in Reader().feed(wire)] == fitting


@pytest.mark.parametrize("raw", [b"", b"[]", b"1", b"{", b'{"a": "\xff"}', b"[" * 100_000])
def test_what_is_no_object_is_no_message(raw: bytes) -> None:
    with pytest.raises(ViolationError):
        decode(raw)


@given(st.lists(st.binary(max_size=80), max_size=8), st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_skimming_finds_where_each_message_ends(bodies: list[bytes], sizes: list[int]) -> None:
    skimmer, wire, at, count = Skimmer(), b"".join(map(frame, bodies)), 0, 0
    ends = [len(b"".join(map(frame, bodies[: number + 1]))) for number in range(len(bodies))]
    for piece in pieces(wire, sizes):
        length, ended = skimmer.skim(piece, further=True)
        assert length == len(piece)
        at, count = at + length, count + ended
        assert count == sum(end <= at for end in ends)
        assert skimmer.between == (at in ends)


@given(st.binary(max_size=80), st.binary(max_size=80), st.integers(1, 50))
def test_skimming_no_further_stops_at_the_end_of_the_message_under_way(one: bytes, next: bytes, size: int) -> None:
    skimmer, wire = Skimmer(), frame(one) + frame(next)
    assert skimmer.skim(wire, further=False) == (0, 0)
    begun = min(size, len(frame(one)))
    _, before = skimmer.skim(wire[:begun], further=True)
    rest = len(frame(one)) - begun
    assert skimmer.skim(wire[begun:], further=False) == (rest, int(rest > 0))
    assert skimmer.between
    assert before == int(not rest)


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_skimming_garbage_is_refused_or_goes_on(given: list[bytes]) -> None:
    skimmer = Skimmer()
    try:
        for data in given:
            assert skimmer.skim(data, further=True)[0] == len(data)
    except ViolationError:
        return


def test_what_is_unread_can_be_taken_over() -> None:
    reader, wire = Reader(), frame(b"{}") + frame(b"[1, 2]")
    assert list(reader.feed(wire[:-3])) == [b"{}"]
    assert reader.take() == frame(b"[1, 2]")[:-3]
    assert list(reader.feed(frame(b"3"))) == [b"3"]

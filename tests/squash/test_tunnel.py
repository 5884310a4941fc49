"""The tunnel's protocol: what may be said, and how much may be under way."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.tunnel import (
    CHUNK,
    WINDOW,
    Call,
    Declined,
    Guest,
    Incoming,
    Outgoing,
    TunnelError,
    client_path,
    credit,
    line_path,
    read_call,
    read_credit,
    stream_path,
)


@given(st.integers(1, 999_999_999))
def test_credit_is_read_as_it_was_written(count: int) -> None:
    assert read_credit(credit(count)) == count


@pytest.mark.parametrize(
    "text", ["", "credit", "credit ", "credit 0", "credit -1", "credit ٣", "credit 1.5", "credit 1 ", "end ", "hello"]
)
def test_what_is_no_credit(text: str) -> None:
    with pytest.raises(TunnelError):
        read_credit(text)
    with pytest.raises(TunnelError):
        read_credit(f"credit {10**9}")


@given(st.lists(st.integers(1, CHUNK)))
def test_no_more_than_a_window_is_under_way_and_nothing_ever_sticks(sizes: list[int]) -> None:
    out, into = Outgoing(), Incoming()
    under_way = 0
    for size in sizes:
        while out.room < size:
            assert under_way, "no room, and nothing to wait for"
            if given := into.passed_on(under_way):
                out.credited(given)
            under_way = 0
        out.sent(size)
        into.arrived(size)
        under_way += size
        assert under_way <= WINDOW


def test_whoever_sends_too_much_is_told() -> None:
    into = Incoming()
    into.arrived(WINDOW)
    with pytest.raises(TunnelError, match="1 bytes where 0 were allowed"):
        into.arrived(1)


def test_credit_for_what_was_never_sent_is_refused() -> None:
    out = Outgoing()
    out.sent(10)
    with pytest.raises(TunnelError, match="credit for 11 bytes, of which 10 were sent"):
        out.credited(11)
    out.credited(10)
    assert out.room == WINDOW


def test_the_end_is_the_end() -> None:
    into = Incoming()
    into.end()
    with pytest.raises(TunnelError, match="data after the end"):
        into.arrived(1)
    with pytest.raises(TunnelError, match="a second end"):
        into.end()


def test_paths_hold_any_name() -> None:
    assert client_path("a/b") == "/api/v2/debugattachment/a%2Fb/tunnel"
    guest = Guest(client="a b@c", takeover=True, read_only=True)
    assert client_path("x", guest) == "/api/v2/debugattachment/x/tunnel?client=a+b%40c&takeover=true&read_only=true"
    assert line_path("x") == "/api/v2/agent/x/line"
    assert stream_path("x") == "/api/v2/stream/x"


def test_a_call_is_read() -> None:
    assert read_call(b'{"stream": "s", "attachment": "a", "later": 1}') == Call(stream="s", attachment="a")
    assert Declined.__struct_fields__ == ("stream", "reason", "message")

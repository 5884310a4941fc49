import msgspec
from hypothesis import given
from hypothesis import strategies as st

from envoy_filter.headers import FORWARDED, marked_request
from squash.model import Carrier, HeldRequest

NAMES = [name.encode() for name in FORWARDED.values()]


def test_reads_what_the_filter_tells() -> None:
    headers = [(b"x-squash-method", b"GET"), (b"x-squash-path", b"/cart?a=1"), (b"user-agent", b"curl")]
    assert marked_request(headers).held == HeldRequest(method="GET", path="/cart?a=1")


def test_the_mark_is_told_and_carried_on_but_not_shown() -> None:
    by_header = marked_request([(b"x-squash-debug", b"secret"), (b"baggage", b"a=1"), (b"baggage", b"b=2;p")])
    assert by_header.held == HeldRequest(baggage="a=1,b=2;p", mark=Carrier.HEADER)
    assert by_header.carried == {"baggage": "a=1,b=2;p,squash=secret"}
    by_baggage = marked_request([(b"baggage", b"a=1, squash=secret;p")])
    assert by_baggage.held == HeldRequest(baggage="a=1, squash=*;p", mark=Carrier.BAGGAGE)
    assert by_baggage.carried == {"x-squash-debug": "secret"}
    assert "secret" not in repr(by_header) + repr(by_baggage)


def test_baggage_too_long_to_be_seen_whole_is_left_alone() -> None:
    told = marked_request([(b"x-squash-debug", b"1"), (b"baggage", b"a=" + b"b" * 20_000)])
    assert told.carried == {}
    assert told.held.baggage == "a=" + "b" * 8190


def test_a_mark_that_may_be_cut_is_not_carried_on() -> None:
    told = marked_request([(b"baggage", b"a=" + b"b" * 8_000 + b",squash=" + b"t" * 500)])
    assert told.held.mark is Carrier.BAGGAGE
    assert told.carried == {}
    whole = marked_request([(b"baggage", b"a=" + b"b" * 8_000 + b",squash=" + b"t" * 182)])
    assert whole.carried == {"x-squash-debug": "t" * 182}


def test_the_caller_tells_its_deadline() -> None:
    assert marked_request([(b"x-squash-expected-rq-timeout-ms", b"1500")]).held.budget == 1.5
    assert marked_request([(b"grpc-timeout", b"2S")]).held.budget == 2.0


def test_long_and_unclean_values() -> None:
    headers = [(b"x-squash-path", b"/" + b"x" * 65_536), (b"traceparent", b"a\x00\x1b\xff\xc3\xa4")]
    held = marked_request(headers).held
    assert held.path == "/" + "x" * 2047
    assert held.traceparent == "a\ufffd\ufffd\ufffd\u00e4"


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=5000))))
def test_whatever_comes_fits_the_schema(headers: list[tuple[bytes, bytes]]) -> None:
    told = marked_request(headers)
    assert msgspec.json.decode(msgspec.json.encode(told.held), type=HeldRequest) == told.held
    for value in told.carried.values():
        value.encode("latin-1")
        assert value.isprintable()

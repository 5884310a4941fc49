import msgspec
from hypothesis import given
from hypothesis import strategies as st

from envoy_filter.headers import FORWARDED, held_request
from squash.model import HeldRequest

NAMES = [name.encode() for name in FORWARDED.values()]


def test_reads_what_the_filter_tells() -> None:
    headers = [(b"x-squash-method", b"GET"), (b"x-squash-path", b"/cart?a=1"), (b"user-agent", b"curl")]
    assert held_request(headers) == HeldRequest(method="GET", path="/cart?a=1")


def test_every_field_has_a_header() -> None:
    assert set(FORWARDED) == set(HeldRequest.__struct_fields__)


def test_long_and_unclean_values() -> None:
    held = held_request([(b"x-squash-path", b"/" + b"x" * 65_536), (b"traceparent", b"a\x00\x1b\xff\xc3\xa4")])
    assert held.path == "/" + "x" * 2047
    assert held.traceparent == "a\ufffd\ufffd\ufffd\u00e4"


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=5000))))
def test_whatever_comes_fits_the_schema(headers: list[tuple[bytes, bytes]]) -> None:
    held = held_request(headers)
    assert msgspec.json.decode(msgspec.json.encode(held), type=HeldRequest) == held

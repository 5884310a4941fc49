"""What the sidecar reads of Envoy's access log."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from envoy_filter.otlp import ABSENT, records
from envoy_filter.told import seen

ODD = b"\xff no UTF-8"


def field(number: int, value: bytes) -> bytes:
    """Of the wire format: a field with a length (Protocol Buffers encoding)."""
    assert len(value) < 1 << 14
    length = bytes([len(value) & 0x7F | 0x80, len(value) >> 7])
    return bytes([number << 3 | 2]) + length + value


def attribute(name: bytes, value: bytes) -> bytes:
    return field(6, field(1, name) + field(2, field(1, value)))


def message(*logs: bytes) -> bytes:
    """Each record has a body, too, and stands beside a resource and a scope."""
    scopes = b"".join(field(2, field(5, field(1, b"body")) + log) for log in logs)
    return field(1, field(1, b"") + field(2, field(1, field(1, b"scope")) + scopes))


def test_attributes_of_each_record() -> None:
    sent = message(
        attribute(b"x-squash-path", b"/a") + attribute(b"x-squash-upgrade", ABSENT), attribute(b"x-squash-path", ODD)
    )
    assert list(records(sent)) == [[(b"x-squash-path", b"/a")], [(b"x-squash-path", ODD)]]
    assert list(records(b"")) == []


def test_what_is_no_such_message() -> None:
    with pytest.raises(ValueError, match="no ExportLogsServiceRequest"):
        list(records(b"\x0a\xff"))


@given(some.binary(max_size=200))
def test_nonsense_does_no_harm(sent: bytes) -> None:
    try:
        found = list(records(sent))
    except ValueError:
        return
    for record in found:
        seen(record, ())


def test_who_was_held_is_marked() -> None:
    assert seen([(b"x-squash-result", b"attached; id=a")], ()).marked
    assert not seen([(b"x-squash-status", b"200")], ()).marked

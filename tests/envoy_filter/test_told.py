"""What Envoy tells of failed and slow answers."""

from hypothesis import given
from hypothesis import strategies as some

from envoy_filter.lookout import Seen
from envoy_filter.told import ANSWER, seen
from squash.model import Failure

ALLOWED = frozenset({"retry-after"})


def test_everything_told() -> None:
    told = {
        "x-squash-method": "POST",
        "x-squash-path": "/cart?x",
        "x-squash-status": "503",
        "x-squash-duration-ms": "1250",
        "x-squash-size": "20",
        "x-squash-largest": "100",
        "x-squash-attempt": "2",
        ANSWER + "retry-after": "7",
        ANSWER + "set-cookie": "s3cret",
    }
    found = seen(((name.encode(), value.encode()) for name, value in told.items()), ALLOWED)
    failure = Failure(status=503, duration=1.25, headers={"retry-after": "7"})
    assert found == Seen("POST", "/cart?x", failure, size=20, largest=100, attempt=2)


def test_nothing_told() -> None:
    assert seen((), ALLOWED) == Seen("", "", Failure())


def test_streams() -> None:
    assert seen([(b"x-squash-upgrade", b"websocket")], ALLOWED).stream
    assert seen([(b"x-squash-content-type", b"application/grpc+proto")], ALLOWED).stream
    assert not seen([(b"x-squash-content-type", b"application/json")], ALLOWED).stream


_names = some.sampled_from(
    [b"x-squash-status", b"x-squash-duration-ms", b"x-squash-size", b"x-squash-path", ANSWER.encode() + b"retry-after"]
)


@given(some.lists(some.tuples(_names, some.binary(max_size=40))))
def test_nonsense_is_no_error(headers: list[tuple[bytes, bytes]]) -> None:
    seen(headers, ALLOWED)

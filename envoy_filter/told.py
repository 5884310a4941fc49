"""What Envoy tells of a request that failed, was slow, or comes next. Nothing of it is trusted."""

from collections.abc import Collection, Iterable

from squash.model import Failure
from squash.result import HEADER

from .headers import METHOD, PATH, clean, longest
from .lookout import Seen

STATUS = "x-squash-status"
DURATION = "x-squash-duration-ms"
SIZE = "x-squash-size"
ATTEMPT = "x-squash-attempt"
UPGRADE = "x-squash-upgrade"
CONTENT = "x-squash-content-type"
LARGEST = "x-squash-largest"
"""Bytes of a body that Envoy can replay."""
ANSWER = "x-squash-answer-"
"""Stands before the name of each header of the answer."""
REPLAY = "x-squash-replay"
"""Response header, of the sidecar and then of the answer itself: Envoy is to send the request once more."""
TOLD = "x-squash-told-"
"""Stands before the names above, and those of `FORWARDED`, while they are on the answer inside Envoy."""
SLOW_FROM = "slow_ms"
"""Runtime value: milliseconds from which an answer is to be told."""
PATIENCE = 10.0
"""Seconds that Envoy's call for what is armed waits for news."""
_MOST_HEADERS = 32


def seen(headers: Iterable[tuple[bytes, bytes]], allowed: Collection[str]) -> Seen:
    """Reads the headers of a call (names in lower case); of the answer's headers those that are `allowed`.

    With `x-squash-result` among them it was held, or bore a mark that counts.
    """
    told: dict[str, str] = {}
    kept: dict[str, str] = {}
    for raw, value in headers:
        name = raw.decode("latin-1")
        if not name.startswith(ANSWER):
            told[name] = clean(value, longest(name))
        elif (own := name.removeprefix(ANSWER)) in allowed and len(kept) < _MOST_HEADERS:
            kept[own] = clean(value, longest(own))
    status = _number(told.get(STATUS))
    failure = Failure(
        status=status if 100 <= status <= 599 else None,
        duration=_number(told[DURATION]) / 1000 if DURATION in told else None,
        headers=kept or None,
    )
    return Seen(
        method=told.get(METHOD, ""),
        path=told.get(PATH, ""),
        failure=failure,
        size=_number(told.get(SIZE)),
        largest=_number(told.get(LARGEST)),
        attempt=_number(told.get(ATTEMPT)) or 1,
        stream=UPGRADE in told or told.get(CONTENT, "").startswith("application/grpc"),
        marked=HEADER in told,
    )


def _number(text: str | None) -> int:
    """What is no number counts as 0."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 16 else 0

"""What a front end tells of a marked request, in headers. Their values come from strangers and are never trusted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from squash import mark
from squash.mark import BAGGAGE, LONGEST_BAGGAGE, Mark
from squash.model import LONGEST_PATH, Failure, HeldRequest, Trigger
from squash.result import MARK

from .budget import budget
from .identity import CLAIMS

IGNORED = "x-squash-ignored"
"""Response header that says: the mark does not count, act as if it were absent."""
HOLD = "x-squash-hold"
"""Response header with the id of a hold that goes on."""

CHECK_PREFIX = "/authz"
"""Stands before the path of the request that Envoy asks about, when it asks by ext_authz over HTTP."""

METHOD, PATH, AUTHORITY = "x-squash-method", "x-squash-path", "x-squash-authority"
EXPECTED = "x-squash-expected-rq-timeout-ms"
FORWARDED = {
    ":method": METHOD,
    ":path": PATH,
    ":authority": AUTHORITY,
    "x-request-id": "x-request-id",
    "traceparent": "traceparent",
    BAGGAGE: BAGGAGE,
    MARK: MARK,
    "grpc-timeout": "grpc-timeout",
    # Under its own name it would be replaced by that of Envoy's call to the sidecar.
    "x-envoy-expected-rq-timeout-ms": EXPECTED,
}
"""The headers of a call to the sidecar, by those of the marked request that they repeat."""

LONGEST = {
    PATH: LONGEST_PATH,
    # One more than is read, so that what was cut is known to be.
    BAGGAGE: LONGEST_BAGGAGE + 1,
    MARK: LONGEST_BAGGAGE,
}
LONGEST_OTHERWISE = 1024
_NAMES = {name.encode(): name for name in (*FORWARDED.values(), *CLAIMS)}


@dataclass(frozen=True)
class MarkedRequest:
    """What is known of a marked request: `held` for everyone to see, `mark` for us alone."""

    held: HeldRequest = field(default_factory=HeldRequest)
    mark: Mark | None = None
    """None when it stands where it was cut off."""
    trigger: Trigger | None = None
    """What made it be held although it bore no mark."""
    failure: Failure | None = None
    carried: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The headers to set on its way onwards, so that it bears the mark in header and baggage.

    Empty when its baggage was cut: the mark may be what was cut.
    """
    claims: Mapping[str, str] = field(default_factory=dict)
    """What Envoy says of whose request it is, by the names of `identity.CLAIMS`."""
    ticket: str | None = field(default=None, repr=False)
    """The mark's value, when it is a ticket that was verified."""


def marked_request(headers: Iterable[tuple[bytes, bytes]]) -> MarkedRequest:
    """Reads the headers of a call (names in lower case). Bad values are cut and cleaned, never refused."""
    told: dict[str, str] = {}
    for raw, value in headers:
        if name := _NAMES.get(raw):
            text = clean(value, longest(name))
            # Baggage may come in several lines; of all others the last one counts.
            told[name] = f"{told[name]},{text}"[: longest(name)] if name == BAGGAGE and name in told else text
    baggage = told.get(BAGGAGE)
    found = mark.read(told.get(MARK), baggage)
    held = HeldRequest(
        method=told.get(METHOD),
        path=told.get(PATH),
        authority=told.get(AUTHORITY),
        request_id=told.get("x-request-id"),
        traceparent=told.get("traceparent"),
        baggage=mark.redacted(baggage)[:LONGEST_BAGGAGE] if baggage else None,
        mark=found.carrier if found else None,
        budget=budget(told.get(EXPECTED), told.get("grpc-timeout")),
    )
    whole = len(baggage or "") < longest(BAGGAGE)
    carried = mark.carried(found, baggage) if found and whole else {}
    claims = {name: told[name] for name in CLAIMS if name in told}
    return MarkedRequest(held, found, carried=carried, claims=claims)


def longest(name: str) -> int:
    """Characters of a header of a call that are kept."""
    return LONGEST.get(name, LONGEST_OTHERWISE)


def clean(value: bytes, most: int) -> str:
    """At most `most` characters; what is not UTF-8 or not printable becomes U+FFFD."""
    text = value[: most * 4].decode("utf-8", "replace")[:most]
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)

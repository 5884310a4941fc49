"""What a front end tells of a held request, in headers. Their values come from strangers and are never trusted."""

from collections.abc import Iterable
from typing import Any

from squash.model import HeldRequest

HOLD = "x-squash-hold"
"""Response header with the id of a hold that goes on."""

CHECK_PREFIX = "/authz"
"""Stands before the path of the request that Envoy asks about, when it asks by ext_authz over HTTP."""

FORWARDED = {
    "method": "x-squash-method",
    "path": "x-squash-path",
    "authority": "x-squash-authority",
    "request_id": "x-request-id",
    "traceparent": "traceparent",
}
"""The headers of a call to the sidecar, by the field of `HeldRequest` that they fill."""

LONGEST = {"path": 2048}
LONGEST_OTHERWISE = 1024
_FIELDS = {header.encode(): field for field, header in FORWARDED.items()}


def held_request(headers: Iterable[tuple[bytes, bytes]]) -> HeldRequest:
    """Reads the headers of a call (names in lower case). Bad values are cut and cleaned, never refused."""
    found = {_FIELDS[name]: value for name, value in headers if name in _FIELDS}
    told: dict[str, Any] = {field: clean(value, longest(field)) for field, value in found.items()}
    return HeldRequest(**told)


def longest(field: str) -> int:
    """Characters of a field of `HeldRequest` that are kept."""
    return LONGEST.get(field, LONGEST_OTHERWISE)


def clean(value: bytes, most: int) -> str:
    """At most `most` characters; what is not UTF-8 or not printable becomes U+FFFD."""
    text = value[: most * 4].decode("utf-8", "replace")[:most]
    return text if text.isprintable() else "".join(c if c.isprintable() else "\ufffd" for c in text)

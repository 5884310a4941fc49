"""The mark of a request: the header `x-squash-debug`, or a member `squash` of its baggage (W3C Baggage).

Services that know nothing of squash pass baggage on when they propagate trace context; so the mark travels in both.
Its value means nothing here; it may be a ticket, so it never goes into logs or errors.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from squash.model import Carrier
from squash.result import MARK

BAGGAGE = "baggage"
MEMBER = "squash"
PATTERN = rf"(?:.*,)?[ \t]*{MEMBER}[ \t]*=.*"
"""Matches, as a whole, a `baggage` that bears the mark; several header lines are one, joined by commas.

No value or property holds a comma, an equals sign or a space that is not percent-encoded, so a member's key stands at
the beginning or behind a comma.
"""
LONGEST_BAGGAGE = 8192
"""Bytes that everyone on the way has to pass on (W3C Baggage, limits)."""
LONGEST_VALUE = 4096
"""Characters of a value that is copied into baggage; a longer one leaves `squash=1` there."""
_MEMBER = re.compile(rf"((?:^|,)[ \t]*{MEMBER}[ \t]*=[ \t]*)([^,;]*)")
"""A member from its beginning to the end of its value, with the blanks behind it: to leave those out here takes a
pattern that is slow on long runs of them."""
_BLANKS = " \t"
_OCTETS = "!#$&'()*+-./:<=>?@[]^_`{|}~"
"""What a value may hold besides letters and digits; a percent sign stands for itself only as `%25`."""


@dataclass(frozen=True)
class Mark:
    """What marks a request; `value` as in the header: any text, also an empty one."""

    carrier: Carrier
    value: str = field(repr=False)


def read(header: str | None, baggage: str | None) -> Mark | None:
    """The mark of a request with these headers; the header's value wins. None without one."""
    member = _MEMBER.search(baggage) if baggage else None
    if header is not None:
        return Mark(Carrier.BOTH if member else Carrier.HEADER, header)
    return Mark(Carrier.BAGGAGE, _decoded(member[2].rstrip(_BLANKS))) if member else None


def carried(mark: Mark, baggage: str | None) -> dict[str, str]:
    """The headers to set so that header and baggage bear the mark, both.

    Baggage that is not plain ASCII, or would become longer than everyone passes on, is left alone.
    """
    match mark.carrier:
        case Carrier.BOTH:
            return {}
        case Carrier.BAGGAGE:
            return {MARK: mark.value}
        case Carrier.HEADER:
            extended = _extended(baggage or "", mark.value)
            return {BAGGAGE: extended} if extended else {}


def redacted(baggage: str) -> str:
    """The same without the mark's value, to be shown."""

    def hidden(member: re.Match[str]) -> str:
        blanks = member[2][len(member[2].rstrip(_BLANKS)) :]
        return f"{member[1]}*{blanks}"

    return _MEMBER.sub(hidden, baggage)


def _extended(baggage: str, value: str) -> str | None:
    quoted = quote(value, safe=_OCTETS)
    member = f"{MEMBER}={quoted if len(quoted) <= LONGEST_VALUE else 1}"
    others = baggage.strip(" \t,")
    extended = f"{others},{member}" if others else member
    plain = extended.isascii() and extended.replace("\t", " ").isprintable()
    return extended if plain and len(extended) <= LONGEST_BAGGAGE else None


def _decoded(quoted: str) -> str:
    """A percent-encoded value, as far as it may stand in a header; else as it is."""
    text = unquote(quoted)
    return text if text.isascii() and text.isprintable() and text == text.strip() else quoted

"""The tunnel's protocol, without I/O: what one stream's two ends say to each other, and how much they may.

A stream is one WebSocket at each of its two ends, client and agent; the coordinator passes messages on between them.

- A binary message is data.
- The text `credit N` says that N bytes of the data that came have been passed on, so that N more may be sent.
- The text `end` says that no more data comes from this side; the other side may go on (half-close).

Nobody sends more than WINDOW bytes ahead of the credit. So each end can read its WebSocket at all times: it learns at
once when the other end breaks, however slow the bytes are, and never has more than a window to keep.

A WebSocket that closes with DONE after `end` has had everything. Any other close means that the stream broke.

An agent keeps one WebSocket open (`line`) on which it gets `Call`s: each asks it to dial a WebSocket for one stream,
or to answer `Declined`.
"""

from urllib.parse import quote, urlencode

import msgspec

from squash.calls import BASE
from squash.model import Struct, Text
from squash.reasons import Reason

WINDOW = 1_048_576
"""Bytes under way in one direction of one stream: so much that no stream waits for credit, also on a busy machine."""
CHUNK = 262_144
"""Bytes of the longest message that we send."""
LONGEST = WINDOW
"""Bytes of the longest message that is taken."""
ALIVE = 4.0
"""Seconds between the pings of either side, and for their answers: a peer lost without a word is given up after both.

Until then a process that its client had stopped stays so.
"""
END = "end"
DONE = 1000
"""Close code of a stream that has had everything."""
BROKEN = 4000
"""Close code of a stream that has not; the close's reason names the end that broke."""
MISUSED = 1008
"""Close code for an end that does not keep to the protocol."""
_CREDIT = "credit "


class TunnelError(Exception):
    """The other end does not keep to the protocol."""


class Guest(Struct, frozen=True, kw_only=True):
    """Who wants a stream, and on what terms. The client says so in the query; the coordinator has the last word."""

    client: Text = ""
    """The person's name, like `user@host`."""
    takeover: bool = False
    """The client that holds the session, if there is one, is to make room."""
    read_only: bool = False
    """This session may look, but change nothing."""
    looks_only: bool = False
    """It may not even stop or steer, and makes room for all others. The coordinator's word; no client asks for it."""


NOBODY = Guest()
"""One who says nothing of itself."""


class Call(Guest, frozen=True, kw_only=True):
    """Coordinator to agent: dial a WebSocket for this stream, to the debug server of this attachment."""

    stream: str
    attachment: str


class Declined(Struct, frozen=True, kw_only=True):
    """Agent to coordinator: there will be none, and why."""

    stream: str
    reason: Reason
    message: str


class Outgoing:
    """How much this side may send."""

    def __init__(self) -> None:
        self.room = WINDOW
        """Bytes."""

    def sent(self, count: int) -> None:
        self.room -= count

    def credited(self, count: int) -> None:
        """Raises TunnelError for credit for what was never sent."""
        if self.room + count > WINDOW:
            raise TunnelError(f"credit for {count} bytes, of which {WINDOW - self.room} were sent")
        self.room += count


class Incoming:
    """How much the other side has sent and this side has passed on."""

    def __init__(self) -> None:
        self._room = WINDOW
        self._owed = 0
        self.ended = False
        """Whether the other side said `end`."""

    def arrived(self, count: int) -> None:
        """Raises TunnelError when that is more than was allowed."""
        if self.ended:
            raise TunnelError("data after the end")
        if count > self._room:
            raise TunnelError(f"{count} bytes where {self._room} were allowed")
        self._room -= count

    def end(self) -> None:
        if self.ended:
            raise TunnelError("a second end")
        self.ended = True

    def passed_on(self, count: int) -> int:
        """The credit to give now: 0 until it is worth a message."""
        self._owed += count
        if self._owed < WINDOW // 4:
            return 0
        credit, self._owed = self._owed, 0
        self._room += credit
        return credit


def credit(count: int) -> str:
    """The message that gives credit for so many bytes."""
    return f"{_CREDIT}{count}"


def read_credit(text: str) -> int:
    """The bytes of a `credit` message. Raises TunnelError when it is none."""
    digits = text.removeprefix(_CREDIT)
    if digits == text or not (digits.isascii() and digits.isdigit()) or len(digits) > 9 or not int(digits):
        raise TunnelError(f"a message {text[:40]!r}")
    return int(digits)


def client_path(attachment: str, guest: Guest = NOBODY) -> str:
    """Where a client's WebSocket for one stream to the attachment's debug server goes."""
    terms = {"client": guest.client} if guest.client else {}
    terms |= {key: "true" for key in ("takeover", "read_only") if getattr(guest, key)}
    query = f"?{urlencode(terms)}" if terms else ""
    return f"{BASE}/debugattachment/{quote(attachment, safe='')}/tunnel{query}"


def line_path(agent: str) -> str:
    """Where an agent gets its calls."""
    return f"{BASE}/agent/{quote(agent, safe='')}/line"


def stream_path(stream: str) -> str:
    """Where an agent dials for a stream that it was called for."""
    return f"{BASE}/stream/{quote(stream, safe='')}"


read_call = msgspec.json.Decoder(Call).decode
read_declined = msgspec.json.Decoder(Declined).decode

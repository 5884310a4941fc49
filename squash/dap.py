"""The Debug Adapter Protocol's base protocol, pure: headers with a length, a blank line, one JSON document.

Source: https://microsoft.github.io/debug-adapter-protocol/overview#base-protocol
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message; a longer one is taken for no message of this protocol."""
MAX_HEADERS = 4096
"""Bytes of the headers of one message, the blank line included; the specification has a single short one."""

_LENGTH = re.compile(rb"(?:^|\r\n)content-length:[ \t]*(\d{1,12})[ \t]*(?=\r\n|\Z)", re.IGNORECASE)
_MOST_DIGITS = 12
_encode = msgspec.json.Encoder().encode


class ViolationError(Exception):
    """The bytes are not of the protocol; what follows them cannot be read either."""


class Reader:
    """Splits one direction into the JSON of its messages, in whatever pieces the bytes come."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        """Where in it the next message starts; what stands before has been given out."""
        self._next: tuple[int, int] | None = None
        """Where the JSON of the next message begins and ends, once its headers are there."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages completed by `data`; each counts as unread until the next is asked for.

        Raises ViolationError.
        """
        if self._at:
            del self._buffer[: self._at]
            self._next = self._next and (self._next[0] - self._at, self._next[1] - self._at)
            self._at = 0
        self._buffer += data
        while self._next or self._read_headers():
            assert self._next  # noqa: S101 - read just now
            start, stop = self._next
            if len(self._buffer) < stop:
                return
            with memoryview(self._buffer) as view:
                raw = bytes(view[start:stop])
            yield raw
            self._at, self._next = stop, None

    def unread(self) -> bytes:
        """What came and has not been given out."""
        return bytes(self._buffer[self._at :])

    def take(self) -> bytes:
        """What is unread, which somebody else reads from now on."""
        taken = self.unread()
        self._buffer, self._at, self._next = bytearray(), 0, None
        return taken

    def _read_headers(self) -> bool:
        self._next = _json_of(self._buffer, self._at)
        return self._next is not None


class Skimmer:
    """Finds where messages end that are passed on as they are, unread and uncopied."""

    def __init__(self) -> None:
        self._body = 0
        """Bytes of the message under way that are still to come."""
        self._headers = b""
        """What came of headers that are not whole yet."""

    @property
    def between(self) -> bool:
        """Whether no message is under way."""
        return not self._body and not self._headers

    def skim(self, data: bytes, *, further: bool) -> tuple[int, int]:
        """How many bytes belong to messages that are under way or, when `further`, begin in them; and how many end.

        Raises ViolationError, and knows nothing from then on.
        """
        carried = len(self._headers)
        data, self._headers, under_way = self._headers + data, b"", carried > 0
        at, ended = min(self._body, len(data)), int(0 < self._body <= len(data))
        self._body -= at
        while at < len(data) and (further or under_way):
            found = _json_of(data, at)
            if not found:
                self._headers, at = data[at:], len(data)
                break
            under_way = False
            at = min(found[1], len(data))
            self._body = found[1] - at
            ended += not self._body
        return at - carried, ended


def _json_of(data: bytes | bytearray, at: int) -> tuple[int, int] | None:
    """Where the JSON of the message at `at` begins and ends; None while its headers are not whole.

    Raises ViolationError.
    """
    end = data.find(b"\r\n\r\n", at, at + MAX_HEADERS)
    if end < 0:
        if len(data) - at >= MAX_HEADERS:
            raise ViolationError("no end of the DAP headers")
        return None
    headers = bytes(data[at:end])
    # As nearly everybody writes it.
    digits = headers.removeprefix(b"Content-Length: ")
    if len(digits) == len(headers) or len(digits) > _MOST_DIGITS or not digits.isdigit():
        lengths = _LENGTH.findall(headers)
        digits = lengths[0] if len(lengths) == 1 else b""
    if not digits or int(digits) > MAX_MESSAGE:
        raise ViolationError(f"no usable Content-Length in {headers!r:.100}")
    return end + 4, end + 4 + int(digits)


def header(raw: bytes) -> bytes:
    """What goes before the JSON of a message."""
    return b"Content-Length: %d\r\n\r\n" % len(raw)


def frame(raw: bytes) -> bytes:
    """The JSON of a message as it goes over the wire."""
    return header(raw) + raw


def message(**fields: Any) -> bytes:
    """A message as it goes over the wire."""
    return frame(_encode(fields))


def decode(raw: bytes) -> dict[str, Any]:
    """The JSON of a message, which is always an object. Raises ViolationError."""
    try:
        found = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ViolationError(f"not a DAP message: {error}") from error
    if not isinstance(found, dict):
        raise ViolationError(f"not a DAP message: {raw[:40]!r}")
    return found

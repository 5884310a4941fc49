"""The packets of the Java Debug Wire Protocol (Java SE, JDWP specification).

After a handshake of fourteen letters each way: length (4 bytes), id (4), flags (1), then command set and command of a
command, or the error code (2) of a reply; then the body.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

HANDSHAKE = b"JDWP-Handshake"
HEADER = struct.Struct(">IIBBB")
REPLY = 0x80
NOT_IMPLEMENTED = 99
"""The error code of what a session may not do: the protocol has none that comes closer."""
LOOKED_AT = 512
"""Bytes of a body, from its beginning, that an interpreter sees; the rest passes as it comes."""
LONGEST_COMMAND = 64 * 1024 * 1024
"""Bytes. The JVM makes room for as many as a command claims to have."""
LONGEST = 0x7FFF_FFFF
Command = tuple[int, int]
_KIND = struct.Struct(">BBI")
_TEXT = struct.Struct(">I")
_ID = 8
"""Bytes of an object's or a class's id in HotSpot."""


class ViolationError(Exception):
    """The bytes are no JDWP."""


class Packet(NamedTuple):
    raw: bytes
    """The header and as much of the body as is looked at."""
    id: int
    reply: bool
    command: Command
    """Of a reply: the two bytes of its error code."""

    @property
    def error(self) -> int:
        return self.command[0] << 8 | self.command[1]

    @property
    def body(self) -> bytes:
        return self.raw[HEADER.size :]


class Reader:
    """Splits one direction into the handshake, packets, and what packets have beyond what is looked at."""

    def __init__(self, longest: int = LONGEST, *, greeted: bool = False) -> None:
        """`greeted`: the handshake is over."""
        self._buffer = bytearray()
        self._longest = longest
        self._greeted = greeted
        self._more = 0
        """Bytes that the last packet still has."""

    def feed(self, data: bytes) -> Iterator[Packet | bytes | None]:
        """What `data` completes: None stands for the handshake, bytes belong to the packet before them.

        Raises ViolationError.
        """
        self._buffer += data
        if not self._greeted and self._greets():
            yield None
        while self._greeted and self._buffer:
            if self._more:
                piece = bytes(self._buffer[: self._more])
                del self._buffer[: self._more]
                self._more -= len(piece)
                yield piece
            elif packet := self._next():
                yield packet
            else:
                return

    def unread(self) -> bytes:
        """What came and was not given out."""
        return bytes(self._buffer)

    def _greets(self) -> bool:
        begun = bytes(self._buffer[: len(HANDSHAKE)])
        if not HANDSHAKE.startswith(begun):
            raise ViolationError(f"{begun!r} is no handshake")
        if len(begun) == len(HANDSHAKE):
            del self._buffer[: len(HANDSHAKE)]
            self._greeted = True
        return self._greeted

    def _next(self) -> Packet | None:
        """None while it is incomplete."""
        if len(self._buffer) < HEADER.size:
            return None
        length, ident, flags, first, second = HEADER.unpack_from(self._buffer)
        if not HEADER.size <= length <= self._longest:
            raise ViolationError(f"a packet of {length} bytes")
        size = min(length, HEADER.size + LOOKED_AT)
        if len(self._buffer) < size:
            return None
        raw = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._more = length - size
        return Packet(raw, ident, bool(flags & REPLY), (first, second))


def command(ident: int, what: Command, body: bytes = b"") -> bytes:
    return HEADER.pack(HEADER.size + len(body), ident, 0, *what) + body


def failure(ident: int, error: int = NOT_IMPLEMENTED) -> bytes:
    return HEADER.pack(HEADER.size, ident, REPLY, error >> 8, error & 0xFF)


class Wish(NamedTuple):
    """An `EventRequest.Set`."""

    kind: int
    suspends: bool
    """Whether a thread, or all, stand still when it comes about."""
    classes: tuple[str, ...]
    """Patterns of the names of classes, or of source files, for which it counts."""
    filtered: bool
    """Whether it counts for some classes only."""


def wish(body: bytes) -> Wish:
    """Of as much of the body as there is."""
    if len(body) < _KIND.size:
        return Wish(0, False, (), False)
    kind, suspends, count = _KIND.unpack_from(body)
    classes: list[str] = []
    filtered = False
    at = _KIND.size
    for _ in range(min(count, LOOKED_AT)):
        modifier, at = body[at : at + 1], at + 1
        if modifier in _TEXTS and len(body) >= at + _TEXT.size:
            end = at + _TEXT.size + _TEXT.unpack_from(body, at)[0]
            if modifier != _EXCLUDES:
                filtered = True
                classes.append(body[at + _TEXT.size : end].decode(errors="replace"))
            at = end
        elif modifier in _SIZES:
            filtered = filtered or modifier == _CLASS_ONLY
            at += _SIZES[modifier]
        else:
            break
    return Wish(kind, suspends != 0, tuple(classes), filtered)


_CLASS_ONLY, _CLASS_MATCH, _EXCLUDES, _SOURCE_MATCH = b"\4", b"\5", b"\6", b"\14"
_TEXTS = (_CLASS_MATCH, _EXCLUDES, _SOURCE_MATCH)
_SIZES = {
    b"\1": 4,
    b"\2": 4,
    b"\3": _ID,
    _CLASS_ONLY: _ID,
    b"\7": 1 + 3 * _ID,
    b"\10": _ID + 2,
    b"\11": 2 * _ID,
    b"\12": _ID + 8,
    b"\13": _ID,
    b"\15": 0,
}
"""Bytes of the modifiers that have no text: count, conditional, thread, class, location, exception, field, step, …"""

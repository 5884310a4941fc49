"""The Java Debug Wire Protocol between a debugger and the JVM (Java SE, JDWP specification).

After a handshake of fourteen letters each way, packets: length (4 bytes), id (4), flags (1), then command set and
command of a command, or the error code (2) of a reply.
"""

import struct
from typing import NamedTuple

from agent.protocols.interpreter import Event, Flow, Interpreter, Kept
from agent.terms import ORDINARY, Terms
from squash.model import Action
from squash.reasons import Reason

HANDSHAKE = b"JDWP-Handshake"
HEADER = struct.Struct(">IIBBB")
REPLY = 0x80
LONGEST = 64 * 1024 * 1024
"""Bytes of a packet; a longer one is none of this protocol."""
NOT_IMPLEMENTED = 99
"""The error code of what a session may not do: the protocol has none that comes closer."""
Command = tuple[int, int]
DISPOSE, RESUME, EXIT = (1, 6), (1, 9), (1, 10)
SET_EVENT = (15, 1)
BREAKPOINT, CLASS_PREPARE = 2, 8
"""Kinds of event. A debugger asks for the second when the class of a breakpoint is not loaded yet."""
_CHANGES: dict[Command, str] = {
    (1, 11): "CreateString",
    (1, 18): "RedefineClasses",
    (1, 19): "SetDefaultStratum",
    (3, 2): "SetStaticValues",
    (9, 2): "SetFieldValues",
    (11, 10): "Stop",
    (11, 11): "Interrupt",
    (11, 14): "ForceEarlyReturn",
    (13, 3): "SetArrayValues",
    (16, 2): "SetLocalValues",
    (16, 4): "PopFrames",
}
_EVALUATES: dict[Command, str] = {
    (3, 3): "InvokeStaticMethod",
    (3, 4): "NewInstance",
    (4, 1): "NewArray",
    (5, 1): "InvokeInterfaceMethod",
    (9, 6): "InvokeMethod",
}
_RESUMES: dict[Command, str] = {RESUME: "Resume", (11, 3): "ResumeThread"}
_LOOKS = frozenset(
    {
        *((1, number) for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 20, 21, 22)),
        *((2, number) for number in range(1, 19)),
        (3, 1),
        *((6, number) for number in range(1, 6)),
        *((9, number) for number in (1, 3, 4, 5, 7, 8, 9, 10)),
        (10, 1),
        *((11, number) for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15)),
        *((12, number) for number in (1, 2, 3)),
        *((13, number) for number in (1, 2)),
        (14, 1),
        *((15, number) for number in (1, 2, 3)),
        *((16, number) for number in (1, 3)),
        (17, 1),
        *((18, number) for number in (1, 2)),
    }
)
"""What a session that may only look may ask. Everything else, known or not, is refused."""


class ViolationError(Exception):
    """The bytes are no JDWP."""


class Packet(NamedTuple):
    raw: bytes
    id: int
    reply: bool
    command: Command
    """Of a reply: the two bytes of its error code."""

    @property
    def error(self) -> int:
        return self.command[0] << 8 | self.command[1]


class Reader:
    """Splits one direction into the handshake and packets."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._greeted = False

    def feed(self, data: bytes) -> list[Packet | None]:
        """What `data` completes; None stands for the handshake. Raises ViolationError."""
        self._buffer += data
        found: list[Packet | None] = []
        if not self._greeted:
            begun = bytes(self._buffer[: len(HANDSHAKE)])
            if not HANDSHAKE.startswith(begun):
                raise ViolationError("no JDWP handshake")
            if len(begun) < len(HANDSHAKE):
                return found
            del self._buffer[: len(HANDSHAKE)]
            self._greeted = True
            found.append(None)
        while (packet := self._next()) is not None:
            found.append(packet)
        return found

    def unread(self) -> bytes:
        return bytes(self._buffer)

    def _next(self) -> Packet | None:
        if len(self._buffer) < HEADER.size:
            return None
        length, ident, flags, first, second = HEADER.unpack_from(self._buffer)
        if not HEADER.size <= length <= LONGEST:
            raise ViolationError(f"a packet of {length} bytes")
        if len(self._buffer) < length:
            return None
        raw = bytes(self._buffer[:length])
        del self._buffer[:length]
        return Packet(raw, ident, bool(flags & REPLY), (first, second))


class Jdwp(Interpreter):
    """Ready at the first VirtualMachine.Resume after which no request for a breakpoint is open."""

    violation = ViolationError

    def __init__(self, terms: Terms = ORDINARY, kept: Kept | None = None) -> None:
        super().__init__(terms, kept)
        self._client = Reader()
        self._server = Reader()
        self._open: set[int] = set()
        """Requests for events that are not answered yet, by number."""
        self._refused = 0
        self._resumed = False

    def _client_says(self, data: bytes, flow: Flow) -> None:
        for packet in self._client.feed(data):
            if packet is None:
                flow.server.append(HANDSHAKE)
            elif packet.reply:
                flow.server.append(packet.raw)
            else:
                self._asked(packet, flow)

    def _asked(self, packet: Packet, flow: Flow) -> None:
        raw, command = packet.raw, packet.command
        if command == EXIT and not self.terms.may_end:
            flow.events.append(Event(Action.TERMINATION_REFUSED, "Exit"))
            raw = HEADER.pack(HEADER.size, packet.id, 0, *DISPOSE)
        elif self.terms.read_only and command not in _LOOKS:
            name = _CHANGES.get(command) or _EVALUATES.get(command) or f"{command[0]}.{command[1]}"
            flow.events.append(Event(Action.REFUSED, name))
            flow.client.append(_error(packet.id))
            return
        elif noted := _noted(command):
            flow.events.append(noted)
        if command == SET_EVENT and raw[HEADER.size : HEADER.size + 1] in (bytes([BREAKPOINT]), bytes([CLASS_PREPARE])):
            self._open.add(packet.id)
        if command == RESUME:
            self._resumed = True
        self.left = self.left or command in (DISPOSE, EXIT)
        self.ready = self.ready or (self._resumed and not self._open)
        flow.server.append(raw)

    def _server_says(self, data: bytes, flow: Flow) -> None:
        for packet in self._server.feed(data):
            flow.client.append(HANDSHAKE if packet is None else packet.raw)
            if packet and packet.reply and packet.id in self._open:
                self._open.discard(packet.id)
                self._refused += packet.error != 0
            self.ready = self.ready or (self._resumed and not self._open)

    def remarks(self) -> str:
        return f"breakpoints that the JVM did not take: {self._refused}" if self._refused else ""

    def _held_back(self) -> tuple[bytes, bytes]:
        return self._client.unread(), self._server.unread()

    def last_words(self, words: str) -> bytes:
        return b""  # the protocol has no words for it

    @classmethod
    def turned_away(cls, said: bytes, reason: Reason, words: str) -> bytes:
        # A debugger shows what it gets in place of the handshake.
        return f"squash: {words}\n".encode() if len(said) >= len(HANDSHAKE) else b""


def _noted(command: Command) -> Event | None:
    if command in _CHANGES:
        return Event(Action.CHANGED, _CHANGES[command])
    if command in _EVALUATES:
        return Event(Action.EVALUATED, _EVALUATES[command])
    if command in _RESUMES:
        return Event(Action.RESUMED, _RESUMES[command])
    return Event(Action.TERMINATED, "Exit") if command == EXIT else None


def _error(ident: int) -> bytes:
    return HEADER.pack(HEADER.size, ident, REPLY, NOT_IMPLEMENTED >> 8, NOT_IMPLEMENTED & 0xFF)

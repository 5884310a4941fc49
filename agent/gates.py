"""The ready gate: sees in the debug protocol itself when a client is connected and its breakpoints are set.

Pure: bytes of both directions go in as they pass, in pieces of any size; nothing is changed or kept back.
"""

import re
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message; a longer one is no message of these protocols, and the gate stops looking."""

SHOWN = 5
"""Breakpoints named in the remarks; of more than these the number is given."""


class Gate(Protocol):
    ready: bool

    def from_client(self, data: bytes) -> None: ...

    def from_server(self, data: bytes) -> None: ...

    def remarks(self) -> str:
        """What a developer should know, like breakpoints that could not be set; mostly empty."""


class ProtocolViolation(Exception):  # noqa: N818 - it is what it says
    """The bytes are not of the protocol; the gate cannot tell any more."""


class _DapMessage(msgspec.Struct):
    type: str = ""
    seq: int = 0
    command: str = ""
    request_seq: int = 0
    success: bool = False
    arguments: msgspec.Raw = msgspec.Raw(b"{}")
    body: msgspec.Raw = msgspec.Raw(b"{}")


class _Source(msgspec.Struct):
    path: str | None = None
    name: str | None = None


class _Wanted(msgspec.Struct):
    line: int = 0


class _SetBreakpoints(msgspec.Struct):
    source: _Source = msgspec.field(default_factory=_Source)
    breakpoints: list[_Wanted] | None = None


class _Answered(msgspec.Struct):
    verified: bool = False
    message: str | None = None


class _Breakpoints(msgspec.Struct):
    breakpoints: list[_Answered] | None = None


_HEADER = re.compile(rb"content-length:\s*(\d{1,12})\s*$", re.IGNORECASE | re.MULTILINE)


class DapReader:
    """Splits a direction of the Debug Adapter Protocol into messages (its base protocol: headers, blank line, JSON)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[_DapMessage]:
        """The messages completed by `data`. Raises ProtocolViolation."""
        self._buffer += data
        messages = []
        while (raw := self._next()) is not None:
            try:
                messages.append(msgspec.json.decode(raw, type=_DapMessage))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ProtocolViolation(f"not a DAP message: {error}") from error
        return messages

    def _next(self) -> bytes | None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > 4096:
                raise ProtocolViolation("no end of the DAP headers")
            return None
        header = _HEADER.search(bytes(self._buffer[:end]))
        if header is None or int(header[1]) > MAX_MESSAGE:
            raise ProtocolViolation(f"no usable Content-Length in {bytes(self._buffer[:end])!r:.100}")
        start, stop = end + 4, end + 4 + int(header[1])
        if len(self._buffer) < stop:
            return None
        raw = bytes(self._buffer[start:stop])
        del self._buffer[:stop]
        return raw


@dataclass
class DapGate:
    """Ready when configurationDone and every request that sets breakpoints are answered."""

    ready: bool = False
    _client: DapReader = field(default_factory=DapReader)
    _server: DapReader = field(default_factory=DapReader)
    _open: dict[int, _DapMessage] = field(default_factory=dict)
    _configured: bool = False
    _unverified: dict[str, list[str]] = field(default_factory=dict)

    def from_client(self, data: bytes) -> None:
        for message in self._client.feed(data):
            if message.type == "request" and _gates(message.command):
                self._open[message.seq] = message

    def from_server(self, data: bytes) -> None:
        for message in self._server.feed(data):
            if message.type == "response" and (asked := self._open.pop(message.request_seq, None)):
                self._answered(asked, message)
        self.ready = self.ready or (self._configured and not self._open)

    def remarks(self) -> str:
        places = [place for found in self._unverified.values() for place in found]
        if not places:
            return ""
        more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
        return f"breakpoints not verified: {', '.join(places[:SHOWN])}{more}"

    def _answered(self, asked: _DapMessage, answer: _DapMessage) -> None:
        if asked.command == "configurationDone":
            self._configured = answer.success
        elif asked.command == "setBreakpoints":
            try:
                wanted = msgspec.json.decode(asked.arguments, type=_SetBreakpoints)
                got = msgspec.json.decode(answer.body, type=_Breakpoints)
            except msgspec.DecodeError as error:
                raise ProtocolViolation(f"not a DAP setBreakpoints: {error}") from error
            path = wanted.source.path or wanted.source.name or "?"
            self._unverified[path] = [
                f"{path}:{place.line}" + (f" ({found.message})" if found.message else "")
                for place, found in zip(wanted.breakpoints or [], got.breakpoints or [], strict=False)
                if not found.verified
            ]


def _gates(command: str) -> bool:
    return command == "configurationDone" or (command.startswith("set") and command.endswith("Breakpoints"))


@dataclass
class GdbGate:
    """Ready at the client's first continue (GDB remote serial protocol): gdb inserts its breakpoints just before it."""

    ready: bool = False
    _buffer: bytearray = field(default_factory=bytearray)

    def from_client(self, data: bytes) -> None:
        if self.ready:
            return
        self._buffer += data
        while (start := self._buffer.find(b"$")) >= 0:
            end = self._buffer.find(b"#", start)
            if end < 0:
                if len(self._buffer) - start > MAX_MESSAGE:
                    raise ProtocolViolation("no end of a gdb packet")
                del self._buffer[:start]
                return
            self.ready = self.ready or _continues(bytes(self._buffer[start + 1 : end]))
            del self._buffer[: end + 1]
        self._buffer.clear()

    def from_server(self, data: bytes) -> None:
        pass

    def remarks(self) -> str:
        return ""


def _continues(packet: bytes) -> bool:
    if packet.startswith(b"vCont;"):
        return any(action[:1] in (b"c", b"C") for action in packet.split(b";")[1:])
    return packet[:1] in (b"c", b"C")


GATES: dict[str, type[DapGate] | type[GdbGate]] = {"dap": DapGate, "gdb": GdbGate}
"""By protocol of the debugger."""

"""Messages of the Debug Adapter Protocol, as far as a session looks into them.

Source: https://microsoft.github.io/debug-adapter-protocol/specification. Whatever cannot be read is a ViolationError.
"""

from typing import Any

import msgspec

from squash.dap import ViolationError

_KEYS = ("seq", "type", "command", "arguments", "request_seq", "success", "message", "body")
_CODE = frozenset({"condition", "hitcondition", "logmessage"})
_Fields = dict[str, msgspec.Raw]
_encode = msgspec.json.Encoder().encode


class Message(msgspec.Struct):
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


class Point(msgspec.Struct):
    """What a client wants of one breakpoint; of one for an exception too."""

    line: int | None = None
    name: str | None = None


class SetBreakpoints(msgspec.Struct):
    """The arguments of every request that sets breakpoints."""

    source: _Source | None = None
    breakpoints: list[Point] | None = None
    filters: list[Any] | None = None
    filterOptions: list[Any] | None = None  # noqa: N815 - as on the wire
    exceptionOptions: list[Any] | None = None  # noqa: N815 - as on the wire

    @property
    def place(self) -> str:
        return (self.source and (self.source.path or self.source.name)) or ""

    @property
    def any(self) -> bool:
        return bool(self.breakpoints or self.filters or self.filterOptions or self.exceptionOptions)


class _Answered(msgspec.Struct):
    verified: bool = False
    message: str | None = None


class Breakpoints(msgspec.Struct):
    """The body of the answer to such a request."""

    breakpoints: list[_Answered | None] | None = None


_read = msgspec.json.Decoder(Message).decode


def decode(raw: bytes) -> Message:
    """Raises ViolationError."""
    try:
        return _read(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ViolationError(f"not a DAP message: {error}") from error


def arguments(raw: msgspec.Raw) -> dict[str, Any]:
    """Of a request, whatever they are: empty when they are no object."""
    found = _decoded(bytes(raw), Any)
    return found if isinstance(found, dict) else {}


def set_breakpoints(raw: msgspec.Raw | bytes) -> SetBreakpoints:
    """Raises ViolationError."""
    return _decoded(bytes(raw), SetBreakpoints | None) or SetBreakpoints()


def breakpoints(raw: msgspec.Raw) -> Breakpoints:
    """Raises ViolationError."""
    return _decoded(bytes(raw), Breakpoints | None) or Breakpoints()


def changed(raw: bytes, **fields: Any) -> bytes:
    """The JSON of a message with other values in these fields; nothing else is touched. Raises ViolationError."""
    whole = _decoded(raw, _Fields)
    for key, value in fields.items():
        whole[key] = msgspec.Raw(_encode(value))
    return _encode(whole)


def plain(raw: bytes) -> bytes:
    """The same message as every reader understands it: each key once, and none but those of the specification."""
    whole = _decoded(raw, dict[str, Any])
    return _encode({key: whole[key] for key in _KEYS if key in whole})


def runs_code(given: Any) -> bool:
    """Whether breakpoints that are asked for have the process evaluate something, however the keys are written."""
    if isinstance(given, dict):
        return any((key.lower() in _CODE and value) or runs_code(value) for key, value in given.items())
    return isinstance(given, list) and any(runs_code(value) for value in given)


def _decoded(raw: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ViolationError(f"not a DAP message: {error}") from error

"""delve's JSON-RPC between a client and delve: JSON objects one after the other, requests up and answers down.

Source: delve's Documentation/api/json-rpc; Go's net/rpc/jsonrpc (JSON-RPC 1.0).
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from agent.protocols import delve_rules as rules
from agent.protocols.interpreter import Event, Flow, Interpreter, Kept
from agent.terms import ORDINARY, Terms
from squash.model import Action
from squash.reasons import Reason

SHOWN = 5
"""Breakpoints named in the remarks; of more than these the number is given."""
LONGEST = 64 * 1024 * 1024
"""Bytes of one object; a longer one is none of this protocol."""
OURS = 1 << 40
"""From here on the numbers of requests that we make."""
SERVICE = "RPCServer."
CREATE = "CreateBreakpoint"
_MARK = re.compile(rb'["{}]')
_IN_TEXT = re.compile(rb'["\\]')
_encode = msgspec.json.Encoder().encode
Id = int | str | None


class ViolationError(Exception):
    """The bytes are not of this protocol."""


class Reader:
    """Cuts one direction into its objects, whatever stands between them."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        """Up to where it has been looked at."""
        self._depth = 0
        self._text = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The objects completed by `data`; each counts as unread until the next is asked for. Raises ViolationError."""
        self._buffer += data
        while self._look():
            yield bytes(self._buffer[: self._at]).lstrip()
            del self._buffer[: self._at]
            self._at = 0
        if len(self._buffer) > LONGEST:
            raise ViolationError("an object without end")

    def unread(self) -> bytes:
        return bytes(self._buffer)

    def _look(self) -> bool:
        """Looks on; whether an object is complete."""
        while mark := (_IN_TEXT if self._text else _MARK).search(self._buffer, self._at):
            sign = mark[0]
            if not self._depth and (sign != b"{" or self._buffer[: mark.start()].strip()):
                raise ViolationError("no JSON object")
            if sign == b"\\":
                if mark.end() == len(self._buffer):
                    self._at = mark.start()
                    return False
                self._at = mark.end() + 1
                continue
            self._at = mark.end()
            if sign == b'"':
                self._text = not self._text
            else:
                self._depth += 1 if sign == b"{" else -1
                if not self._depth:
                    return True
        self._at = len(self._buffer)
        if not self._depth and self._buffer.strip():
            raise ViolationError("no JSON object")
        return False


class _Answer(msgspec.Struct):
    id: Any = None
    error: Any = None
    result: msgspec.Raw = msgspec.Raw(b"null")


class _Made(msgspec.Struct):
    id: int = 0


class _Result(msgspec.Struct):
    Breakpoint: _Made | None = None


class _Request:
    """What a client asks."""

    def __init__(self, raw: bytes) -> None:
        """Raises ViolationError."""
        self.raw = raw
        whole = _decoded(raw)
        method, ident, params = whole.get("method"), whole.get("id"), whole.get("params")
        if not isinstance(method, str) or not isinstance(ident, int | str | None):
            raise ViolationError(f"no request: {raw[:60]!r}")
        self.id: Id = ident
        self.method = method.removeprefix(SERVICE)
        first = params[0] if isinstance(params, list) and params else {}
        self.given: rules.Argument = first if isinstance(first, dict) else {}


class DelveRpc(Interpreter):
    """Ready at the first `continue` after which no request for a breakpoint is open."""

    violation = ViolationError

    def __init__(self, terms: Terms = ORDINARY, kept: Kept | None = None) -> None:
        super().__init__(terms, kept)
        self._client = Reader()
        self._server = bytearray()
        self._next = 0
        """Where in it the answer begins that is looked at."""
        self._open: dict[Id, _Request] = {}
        """Requests without an answer yet, by number; also our own."""
        self._last = OURS
        self._continued = False
        self._halting: int | None = None
        """The number of our request to halt, before which nothing else is asked."""
        self._waiting: list[bytes] = []
        self._refused: dict[str, str] = {}
        """Breakpoints that delve did not take, and why."""
        self._set: dict[int, bytes] = {}
        """What the client has set, by delve's number of it."""

    # -- client to delve ----------------------------------------------------------------------------

    def _client_says(self, data: bytes, flow: Flow) -> None:
        for raw in self._client.feed(data):
            self._asked(_Request(raw), flow)
            if flow.over:
                return

    def _asked(self, asked: _Request, flow: Flow) -> None:
        if why := rules.refusal(asked.method, asked.given, self.terms):
            flow.events.append(Event(Action.REFUSED, asked.method[:40]))
            flow.client.append(_error(asked.id, Reason.READ_ONLY if self.terms.read_only else Reason.FORBIDDEN, why))
            return
        if asked.method == "Detach":
            self._parts(asked, flow)
            return
        if noted := rules.event(asked.method, asked.given):
            flow.events.append(noted)
        if rules.command(asked.method, asked.given) == "continue":
            self._set_again(flow)
            self._continued = True
        self._forget_cleared(asked)
        self._pass(asked, flow)
        self._look()

    def _parts(self, asked: _Request, flow: Flow) -> None:
        """Unless the process is to end, the answer comes from here: how delve lets go of it is the guard's to say."""
        kill = bool(asked.given.get("kill"))
        self.left = True
        if not (kill and self.terms.may_end):
            if kill:
                flow.events.append(Event(Action.TERMINATION_REFUSED, "Detach"))
            flow.client.append(bytes(_encode({"id": asked.id, "result": {}, "error": None})) + b"\n")
            flow.over = True
            return
        flow.events.append(Event(Action.TERMINATED, "Detach"))
        asked.raw = _request("Detach", {"Kill": True}, asked.id)
        # delve would do it only when the process stops next, if it runs.
        if self._running and self._halting is None:
            self._halting = self._ask("Command", {"name": rules.HALT}, flow)
        self._pass(asked, flow)

    @property
    def _running(self) -> bool:
        return any(rules.command(each.method, each.given) in rules.RESUMES for each in self._open.values())

    def _pass(self, asked: _Request, flow: Flow) -> None:
        self._open[asked.id] = asked
        (flow.server if self._halting is None else self._waiting).append(asked.raw + b"\n")

    def _ask(self, method: str, given: Any, flow: Flow) -> int:
        self._last += 1
        raw = _request(method, given, self._last)
        self._open[self._last] = _Request(raw)
        flow.server.append(raw + b"\n")
        return self._last

    # -- delve to client ----------------------------------------------------------------------------

    def _server_says(self, data: bytes, flow: Flow) -> None:
        looked = len(self._server)
        self._server += data
        start = 0
        while (end := self._server.find(b"\n", max(start, looked))) >= 0:
            line = bytes(self._server[start:end])
            if line:
                self._next = start
                self._answered(line, flow)
            start = end + 1
        del self._server[:start]
        self._next = 0
        if len(self._server) > LONGEST:
            raise ViolationError("an answer without end")

    def _answered(self, line: bytes, flow: Flow) -> None:
        try:
            said = msgspec.json.decode(line, type=_Answer)
            asked = self._open.pop(said.id, None)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
            raise ViolationError(f"no answer of delve: {error}") from error
        if asked and asked.method == CREATE:
            self._created(asked, said)
        if said.id == self._halting and said.id is not None:
            self._halting = None
            flow.server += self._waiting
            self._waiting = []
        if not isinstance(said.id, int) or said.id <= OURS or asked is None:
            flow.client.append(line + b"\n")
        self._look()

    def _look(self) -> None:
        gated = any(each.method == CREATE for each in self._open.values())
        self.ready = self.ready or (self._continued and not gated)

    def _created(self, asked: _Request, said: _Answer) -> None:
        where = rules.place(asked.given)
        if said.error:
            self._refused[where] = str(said.error)
            return
        self._refused.pop(where, None)
        try:
            made = msgspec.json.decode(said.result, type=_Result | None)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # then it is not given back to a client that comes again
        if made and made.Breakpoint:
            self._set[made.Breakpoint.id] = asked.raw

    def remarks(self) -> str:
        if not self._refused:
            return ""
        named = [f"{where} ({why})" for where, why in self._refused.items()]
        more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        return f"breakpoints not verified: {', '.join(named[:SHOWN])}{more}"

    # -- breakpoints of a session that broke off ----------------------------------------------------

    @property
    def kept(self) -> Kept:
        if self.left:
            return {}
        if not self._continued and not self._set:
            return self._before
        return {(CREATE, str(number)): raw for number, raw in self._set.items()}

    def _forget_cleared(self, asked: _Request) -> None:
        number = asked.given.get("id")
        if asked.method == "ClearBreakpoint" and isinstance(number, int):
            self._set.pop(number, None)

    def _set_again(self, flow: Flow) -> None:
        """What this client had set before its session broke off; delve itself refuses those that are there already."""
        if self._continued:
            return
        mine = {rules.place(_Request(raw).given) for raw in self._set.values()}
        for raw in self._before.values():
            given = _decoded(raw)["params"][0]
            if rules.place(given) not in mine and not rules.refusal(CREATE, given, self.terms):
                self._ask(CREATE, json.loads(raw)["params"][0], flow)

    # -- parting ------------------------------------------------------------------------------------

    def _held_back(self) -> tuple[bytes, bytes]:
        return b"".join(self._waiting) + self._client.unread(), bytes(self._server[self._next :])

    def last_words(self, words: str) -> bytes:
        """As the answer to whatever is still unanswered: nothing is said unasked in this protocol."""
        waiting = [number for number in self._open if not isinstance(number, int) or number <= OURS]
        return b"".join(_error(number, Reason.ENDED, words) for number in waiting)

    @classmethod
    def turned_away(cls, said: bytes, reason: Reason, words: str) -> bytes:
        try:
            for raw in Reader().feed(said):
                return _error(_Request(raw).id, reason, words)
        except ViolationError:
            return b"\n"
        return b""


def _decoded(raw: bytes) -> dict[str, Any]:
    """An object with its keys in lower case; none may stand twice, for delve would take both. Raises ViolationError."""
    try:
        found = json.loads(raw.decode(), object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise ViolationError(f"no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ViolationError(f"no JSON object: {raw[:40]!r}")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = {key.casefold(): value for key, value in pairs}
    if len(found) != len(pairs):
        raise ViolationError("an object that has a key twice")
    return found


def _request(method: str, given: Any, number: Id) -> bytes:
    return bytes(_encode({"method": SERVICE + method, "params": [given], "id": number}))


def _error(number: Id, reason: Reason, words: str) -> bytes:
    return bytes(_encode({"id": number, "result": None, "error": f"squash: {words} ({reason})"})) + b"\n"

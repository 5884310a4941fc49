"""The inspector protocol of Node.js: a WebSocket towards the client, a line of JSON a message towards the process.

The client's side is what Node itself would offer: the HTTP endpoints /json, /json/list and /json/version, and a
WebSocket at the address that they tell (Chrome DevTools Protocol; RFC 6455).
"""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from websockets.datastructures import Headers
from websockets.exceptions import InvalidMessage
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from agent.protocols import inspector_rules as rules
from agent.protocols.interpreter import Event, Flow, Interpreter, Kept
from agent.terms import ORDINARY, Terms
from squash.model import Action
from squash.reasons import Reason

SHOWN = 5
"""Breakpoints named in the remarks; of more than these the number is given."""
REFUSED = -32_000
"""Error code of what a session may not do: the first of those that JSON-RPC leaves to servers."""
LONGEST = 64 * 1024 * 1024
"""Bytes of a message."""
OURS = 1 << 30
"""From here on the numbers of requests that we make of the process; V8 wants 32 bits."""
TARGET = "squash"
_REASON = 120
"""Bytes of a close frame's reason (RFC 6455, 5.5)."""
_PROGRAMS = ("devtools://", "chrome-devtools://")
"""Origins that are no pages."""


class ViolationError(Exception):
    """The bytes are not of the protocol."""


class _Said(msgspec.Struct):
    method: str
    id: int
    params: dict[str, Any] | None = None


class _Answer(msgspec.Struct):
    id: int | None = None
    error: Any = None
    result: dict[str, Any] | None = None


_said = msgspec.json.Decoder(_Said)
_answer = msgspec.json.Decoder(_Answer)
_encode = msgspec.json.Encoder().encode
T = TypeVar("T")


class Inspector(Interpreter):
    """Ready when the client has let the program run, has set a breakpoint, and every breakpoint is answered.

    What cannot be followed always ends: the two sides speak in different frames, so nothing can pass unread.
    """

    violation = ViolationError

    def __init__(self, terms: Terms = ORDINARY, kept: Kept | None = None) -> None:
        super().__init__(terms, kept)
        self._web = ServerProtocol(max_size=LONGEST)
        self._parts: list[bytes] = []
        self._rest = bytearray()
        self._open: dict[int, _Said] = {}
        """Requests for breakpoints that are not answered yet."""
        self._ours = OURS
        """The number of our next request."""
        self._set: dict[str, _Said] = {}
        """Breakpoints in the process, by V8's names for them."""
        self._again: dict[tuple[str, ...], str] = {}
        """V8's names of those that the client has not set itself in this session, by where they are."""
        self._came = False
        """Whether this is a session, and not only a question about it."""
        self._running = False
        self._any = False
        self._unverified: list[str] = []

    def from_client(self, data: bytes) -> Flow:
        return Flow(over=True) if self.lost else super().from_client(data)

    def from_server(self, data: bytes) -> Flow:
        return Flow(over=True) if self.lost else super().from_server(data)

    def _try(self, understand: Callable[[bytes, Flow], None], data: bytes, flow: Flow) -> None:
        try:
            understand(data, flow)
        except ViolationError as error:
            self.lost = str(error)
            flow.events.append(Event(Action.UNFOLLOWED, "the session was ended"))
            flow.client.append(self.last_words("what is said is not of the protocol, so this session ends here"))
            flow.over = True

    # -- client to process --------------------------------------------------------------------------

    def _client_says(self, data: bytes, flow: Flow) -> None:
        self._web.receive_data(data)
        try:
            for event in self._web.events_received():
                if isinstance(event, Request):
                    self._web.send_response(self._welcome(event))
                elif isinstance(event, Frame):
                    self._framed(event, flow)
        finally:
            flow.client += [piece for piece in self._web.data_to_send() if piece]
        if error := self._web.parser_exc or self._web.handshake_exc:
            if self._web.parser_exc or isinstance(error, InvalidMessage):
                raise ViolationError(str(error))
            flow.over = True
        if self._web.close_expected():
            flow.over = True

    def _welcome(self, request: Request) -> Response:
        """Only for programs of this machine: no page may, whatever name it has for it (DNS rebinding)."""
        origin, host = request.headers.get("Origin", ""), request.headers.get("Host", "")
        if (origin and not origin.startswith(_PROGRAMS)) or not _is_local(host):
            return self._web.reject(403, "only programs may connect, by an address or localhost\n")
        if request.headers.get("Upgrade"):
            # Under any address: each question comes by a connection of its own, and this process is all there is here.
            self._came = True
            return self._web.accept(request)
        about: Any = {
            "/json": _targets(host),
            "/json/list": _targets(host),
            "/json/version": {"Browser": "node.js (squash)", "Protocol-Version": "1.1"},
        }.get(request.path.rstrip("/"))
        if about is None:
            return self._web.reject(404, f"there is no {request.path!r:.80}; see /json/list\n")
        self.left = True
        body = _encode(about)
        kind = Headers({"Content-Type": "application/json; charset=UTF-8", "Content-Length": str(len(body))})
        kind["Connection"] = "close"
        return Response(200, "OK", kind, body)

    def _framed(self, frame: Frame, flow: Flow) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.left = True
        if frame.opcode is Opcode.BINARY:
            raise ViolationError("a binary message")
        if frame.opcode not in (Opcode.TEXT, Opcode.CONT):
            return
        self._parts.append(bytes(frame.data))
        if frame.fin:
            raw = b"".join(self._parts)
            self._parts.clear()
            self._asked(raw, flow)

    def _asked(self, raw: bytes, flow: Flow) -> None:
        said = _decode(_said, raw)
        if not 0 <= said.id < OURS:
            raise ViolationError(f"a number that is not between 0 and {OURS}: {said.id}")
        params = said.params or {}
        if why := rules.refusal(said.method, params, self.terms):
            flow.events.append(rules.refused(said.method))
            answer = {"id": said.id, "error": {"code": REFUSED, "message": f"squash: {why}"}}
            self._tell(_encode(answer), flow)
            return
        if noted := rules.event(said.method, params):
            flow.events.append(noted)
        if said.method in rules.BREAKPOINTS:
            self._forget(rules.spot(said.method, params), flow)
            self._open[said.id] = said
        elif said.method == "Debugger.removeBreakpoint":
            self._set.pop(str(params.get("breakpointId")), None)
        # As it was understood: what could be read in two ways is passed on in one.
        flow.server.append(_encode(said) + b"\n")
        if said.method == rules.ENABLE and self.terms.looks_only:
            # A statement in the program could stop it, too, and who only looks could not let it go.
            self._ask(rules.SKIP, {"skip": True}, flow)
        if said.method == rules.GATE:
            self._set_again(flow)
            self._running = True
            self._look()

    def _ask(self, method: str, params: dict[str, Any], flow: Flow) -> _Said:
        """A request of our own, of whose answer the client does not hear."""
        said = _Said(method, self._ours, params)
        self._ours += 1
        flow.server.append(_encode(said) + b"\n")
        return said

    # -- process to client --------------------------------------------------------------------------

    def _server_says(self, data: bytes, flow: Flow) -> None:
        self._rest += data
        if b"\n" not in data:
            return
        *lines, rest = self._rest.split(b"\n")
        self._rest = bytearray(rest)
        for line in lines:
            if self._heard(bytes(line)):
                self._tell(bytes(line), flow)

    def _heard(self, line: bytes) -> bool:
        """Whether the client is to hear it, too."""
        if not self._open and self._ours == OURS:
            return True
        answer = _decode(_answer, line)
        if answer.id is None:
            return True
        if asked := self._open.pop(answer.id, None):
            self._any = True
            result = answer.result or {}
            if not answer.error and (name := result.get("breakpointId")):
                self._set[str(name)] = asked
            if answer.error or result.get("locations") == []:
                self._unverified.append(rules.place(asked.params or {}))
            self._look()
        return answer.id < OURS

    def _look(self) -> None:
        self.ready = self.ready or (self._running and self._any and not self._open)

    def _tell(self, text: bytes, flow: Flow) -> None:
        if self._web.state is State.OPEN:
            self._web.send_text(text)
            flow.client += self._web.data_to_send()

    # -- breakpoints of a session that broke off ----------------------------------------------------

    @property
    def kept(self) -> Kept:
        if not self._came:
            return self._before
        return {} if self.left else {(said.method, name): _encode(said.params) for name, said in self._set.items()}

    def _set_again(self, flow: Flow) -> None:
        """What this client had set before its session broke off, as far as it has not said anything else meanwhile."""
        mine = {rules.spot(said.method, said.params or {}) for said in (*self._set.values(), *self._open.values())}
        places = []
        before, self._before = self._before, {}
        for (method, name), given in before.items():
            params: dict[str, Any] = msgspec.json.decode(given)
            spot = rules.spot(method, params)
            if spot in mine or rules.refusal(method, params, self.terms):
                continue
            self._again[spot] = name
            asked = self._ask(method, params, flow)
            self._open[asked.id] = asked
            places.append(rules.place(params))
        if places:
            self._tell(_console(f"breakpoints set again: {', '.join(places)}"), flow)

    def _forget(self, spot: tuple[str, ...], flow: Flow) -> None:
        """A client that sets what was set again on its behalf means its own: V8 would refuse the second."""
        if name := self._again.pop(spot, None):
            self._set.pop(name, None)
            self._ask("Debugger.removeBreakpoint", {"breakpointId": name}, flow)

    # -- what a session says of itself --------------------------------------------------------------

    def remarks(self) -> str:
        if not self._unverified:
            return ""
        more = f" and {len(self._unverified) - SHOWN} more" if len(self._unverified) > SHOWN else ""
        return f"breakpoints not verified: {', '.join(self._unverified[:SHOWN])}{more}"

    def _held_back(self) -> tuple[bytes, bytes]:
        return b"", b""

    def last_words(self, words: str) -> bytes:
        if self._web.state is not State.OPEN:
            return b""
        self._web.send_text(_encode({"method": "Inspector.detached", "params": {"reason": f"squash: {words}"}}))
        self._web.send_close(1001, words.encode()[:_REASON].decode(errors="ignore"))
        return b"".join(self._web.data_to_send())

    @classmethod
    def turned_away(cls, said: bytes, reason: Reason, words: str) -> bytes:
        if b"\r\n\r\n" not in said:
            return b""
        body = f"squash: {words}\n".encode()
        head = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ViolationError(f"not a message of the inspector: {error}") from error


def _targets(host: str) -> list[Mapping[str, str]]:
    """In the form in which Node tells them."""
    address = f"{host}/{TARGET}"
    frontend = f"devtools://devtools/bundled/js_app.html?experiments=true&v8only=true&ws={address}"
    return [
        {
            "description": "node.js instance",
            "devtoolsFrontendUrl": frontend,
            "devtoolsFrontendUrlCompat": frontend,
            "id": TARGET,
            "title": "squash",
            "type": "node",
            "url": "file://",
            "webSocketDebuggerUrl": f"ws://{address}",
        }
    ]


def _console(words: str) -> bytes:
    """Shown where the program's own output is."""
    said = {"type": "info", "args": [{"type": "string", "value": f"squash: {words}"}]}
    params = {**said, "executionContextId": 1, "timestamp": time.time() * 1000}
    return _encode({"method": "Runtime.consoleAPICalled", "params": params})


def _is_local(host: str) -> bool:
    """Whether a Host header names an address or this machine, as it must: any other name may be a page's."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name in ("localhost", "localhost6") or name.startswith("[") or name.replace(".", "").isdecimal()

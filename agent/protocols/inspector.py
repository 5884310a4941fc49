"""The inspector protocol of Node.js: a WebSocket towards the client, a line of JSON a message towards the process.

The client's side is what Node itself would offer: the HTTP endpoints /json, /json/list and /json/version, and a
WebSocket at the address that they tell (Chrome DevTools Protocol; RFC 6455).
"""

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from agent.protocols.interpreter import Event, Flow, Interpreter, Kept
from agent.terms import ORDINARY, Terms
from squash.model import Action
from squash.reasons import Reason

SHOWN = 5
REFUSED = -32_000
"""Error code of what a session may not do: the first of those that JSON-RPC leaves to servers."""
LONGEST = 64 * 1024 * 1024
"""Bytes of a message."""
GATE = "Runtime.runIfWaitingForDebugger"
ENDS = frozenset({"Runtime.terminateExecution", "Browser.close", "Browser.crash"})
_BREAKPOINTS = frozenset(
    {"Debugger.setBreakpoint", "Debugger.setBreakpointByUrl", "Debugger.setBreakpointOnFunctionCall"}
)
_EVALUATES = frozenset(
    {"Runtime.evaluate", "Runtime.callFunctionOn", "Runtime.runScript", "Debugger.evaluateOnCallFrame"}
)
_CHANGES = frozenset(
    {
        "Debugger.setVariableValue",
        "Debugger.setScriptSource",
        "Debugger.setReturnValue",
        "Debugger.restartFrame",
        "Runtime.addBinding",
        "Runtime.compileScript",
    }
)
_RESUMES = frozenset(f"Debugger.{step}" for step in ("resume", "stepInto", "stepOut", "stepOver", "continueToLocation"))
_LOOKS = frozenset(
    {
        *(f"Debugger.{name}" for name in ("enable", "disable", "getScriptSource", "getStackTrace", "pause")),
        *(f"Debugger.{name}" for name in ("getPossibleBreakpoints", "removeBreakpoint", "searchInContent")),
        *(f"Debugger.{name}" for name in ("setAsyncCallStackDepth", "setBreakpointsActive", "setPauseOnExceptions")),
        *(f"Debugger.{name}" for name in ("setBlackboxPatterns", "setBlackboxedRanges", "setSkipAllPauses")),
        *(f"Debugger.{name}" for name in ("setInstrumentationBreakpoint", "getWasmBytecode")),
        *(f"Runtime.{name}" for name in ("enable", "disable", "getProperties", "globalLexicalScopeNames")),
        *(
            f"Runtime.{name}"
            for name in ("releaseObject", "releaseObjectGroup", "setAsyncCallStackDepth", "getIsolateId")
        ),
        *(f"Runtime.{name}" for name in ("getHeapUsage", "discardConsoleEntries", "setMaxCallStackSizeToCapture")),
        *(f"Profiler.{name}" for name in ("enable", "disable")),
        *(f"NodeWorker.{name}" for name in ("disable",)),
        *(f"NodeRuntime.{name}" for name in ("enable", "disable", "notifyWhenWaitingForDisconnect")),
        GATE,
    }
)
"""What a session that may only look may ask, besides what is looked at more closely; all else is refused."""


class ViolationError(Exception):
    """The bytes are not of the protocol."""


class _Said(msgspec.Struct):
    id: int | None = None
    method: str = ""
    params: dict[str, Any] = {}


class _Answer(msgspec.Struct):
    id: int | None = None
    error: msgspec.Raw | None = None
    result: dict[str, Any] | None = None


_said = msgspec.json.Decoder(_Said)
_answer = msgspec.json.Decoder(_Answer)


class Inspector(Interpreter):
    """Ready when the client has let the program run, has set a breakpoint, and every breakpoint is answered."""

    violation = ViolationError

    def __init__(self, terms: Terms = ORDINARY, kept: Kept | None = None) -> None:
        super().__init__(terms, kept)
        self._web = ServerProtocol(max_size=LONGEST)
        self._path = f"/{secrets.token_hex(16)}"
        self._parts: list[bytes] = []
        self._rest = bytearray()
        self._open: dict[int, str] = {}
        """Requests for breakpoints that are not answered yet, with the place of each, by number."""
        self._running = False
        self._any = False
        self._unverified: list[str] = []

    # -- client to process --------------------------------------------------------------------------

    def _client_says(self, data: bytes, flow: Flow) -> None:
        self._web.receive_data(data)
        for event in self._web.events_received():
            if isinstance(event, Request):
                self._web.send_response(self._welcome(event))
            elif isinstance(event, Frame):
                self._framed(event, flow)
        flow.client += [piece for piece in self._web.data_to_send() if piece]
        if isinstance(self._web.handshake_exc, InvalidHandshake | EOFError):
            raise ViolationError(str(self._web.handshake_exc))
        if self._web.close_expected():
            flow.over = True

    def _welcome(self, request: Request) -> Response:
        """Only for programs of this machine: no page may, whatever name it has for it (DNS rebinding)."""
        origin, host = request.headers.get("Origin", ""), request.headers.get("Host", "")
        if origin.startswith("http") or not _is_local(host):
            return self._web.reject(403, "only programs may connect, by an address or localhost\n")
        if request.path == self._path:
            return self._web.accept(request)
        about: Any = {
            "/json": self._targets(host),
            "/json/list": self._targets(host),
            "/json/version": {"Browser": "node.js (squash)", "Protocol-Version": "1.1"},
        }.get(request.path.rstrip("/"))
        if about is None:
            return self._web.reject(404, f"there is no {request.path}; see /json/list\n")
        body = msgspec.json.encode(about)
        kind = Headers({"Content-Type": "application/json; charset=UTF-8", "Content-Length": str(len(body))})
        kind["Connection"] = "close"
        return Response(200, "OK", kind, body)

    def _targets(self, host: str) -> list[Mapping[str, str]]:
        address = f"{host}{self._path}"
        return [
            {
                "id": self._path[1:],
                "type": "node",
                "title": "squash",
                "description": "node.js instance",
                "webSocketDebuggerUrl": f"ws://{address}",
            }
        ]

    def _framed(self, frame: Frame, flow: Flow) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.left = True
        if frame.opcode not in (Opcode.TEXT, Opcode.CONT):
            return
        self._parts.append(bytes(frame.data))
        if frame.fin:
            raw = b"".join(self._parts)
            self._parts.clear()
            self._asked(raw, flow)

    def _asked(self, raw: bytes, flow: Flow) -> None:
        try:
            said = _said.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ViolationError(f"not a message of the inspector: {error}") from error
        if why := self._forbidden(said):
            action = Action.TERMINATION_REFUSED if said.method in ENDS else Action.REFUSED
            flow.events.append(Event(action, said.method))
            answer = {"id": said.id, "error": {"code": REFUSED, "message": f"squash: {why}"}}
            self._tell(msgspec.json.encode(answer), flow)
            return
        if noted := _noted(said.method):
            flow.events.append(Event(noted, said.method))
        if said.method in _BREAKPOINTS and said.id is not None:
            self._open[said.id] = _place(said.params)
        if said.method == GATE:
            self._running = True
            self._look()
        # A line feed may stand between the parts of a JSON document, and only there.
        flow.server.append(raw.replace(b"\n", b" ").replace(b"\r", b" ") + b"\n")

    def _forbidden(self, said: _Said) -> str:
        if said.method in ENDS:
            return "" if self.terms.may_end else "this session may not end the process"
        if not self.terms.read_only or said.method in _LOOKS | _RESUMES:
            return ""
        if said.method in _BREAKPOINTS:
            return "a condition runs code, and this session may only look" if said.params.get("condition") else ""
        if said.method in _EVALUATES and said.params.get("throwOnSideEffect"):
            return ""
        return f"this session may only look, and {said.method} could change something"

    # -- process to client --------------------------------------------------------------------------

    def _server_says(self, data: bytes, flow: Flow) -> None:
        self._rest += data
        *lines, rest = self._rest.split(b"\n")
        self._rest = bytearray(rest)
        for line in lines:
            self._heard(bytes(line))
            self._tell(bytes(line), flow)

    def _heard(self, line: bytes) -> None:
        if not self._open or self.ready:
            return
        try:
            answer = _answer.decode(line)
        except msgspec.DecodeError as error:
            raise ViolationError(f"not a message of the inspector: {error}") from error
        if answer.id is None or (place := self._open.pop(answer.id, None)) is None:
            return
        self._any = True
        if answer.error or (answer.result or {}).get("locations") == []:
            self._unverified.append(place)
        self._look()

    def _look(self) -> None:
        self.ready = self.ready or (self._running and self._any and not self._open)

    def _tell(self, text: bytes, flow: Flow) -> None:
        if self._web.state is State.OPEN:
            self._web.send_text(text)
            flow.client += self._web.data_to_send()

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
        self._web.send_close(1001, words[:100])
        return b"".join(self._web.data_to_send())

    @classmethod
    def turned_away(cls, said: bytes, reason: Reason, words: str) -> bytes:
        if b"\r\n\r\n" not in said:
            return b""
        body = f"squash: {words}\n".encode()
        return b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _noted(method: str) -> Action | None:
    if method in _EVALUATES:
        return Action.EVALUATED
    if method in _CHANGES:
        return Action.CHANGED
    if method in _RESUMES:
        return Action.RESUMED
    return Action.TERMINATED if method in ENDS else None


def _place(params: Mapping[str, Any]) -> str:
    location = params.get("location") or params
    where = params.get("url") or params.get("urlRegex") or location.get("scriptId") or params.get("objectId") or "?"
    line = location.get("lineNumber")
    return f"{where}:{line + 1}" if isinstance(line, int) else str(where)


def _is_local(host: str) -> bool:
    """Whether a Host header names an address or this machine, as it must: any other name may be a page's."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    return name in ("localhost", "localhost6") or name.startswith("[") or name.replace(".", "").isdecimal()

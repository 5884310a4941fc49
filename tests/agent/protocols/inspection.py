"""A conversation with an inspector that is not there, by way of its interpreter."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import settings
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from agent.protocols.inspector import Inspector
from agent.protocols.interpreter import Event, Flow
from agent.terms import ORDINARY, Terms
from tests.agent.protocols.speech import cut

LOOKING = Terms(read_only=True)
GUEST = Terms(read_only=True, looks_only=True)
ENDING = Terms(allow_terminate=True)
GATE = "Runtime.runIfWaitingForDebugger"
SET = "Debugger.setBreakpointByUrl"
AT: dict[str, Any] = {"url": "file:///app/shop.js", "lineNumber": 6}
unhurried = settings(deadline=None)
"""On a busy machine any example may take its time."""


class Talk:
    """An interpreter, a client's end of its WebSocket, and the process's end of its lines."""

    def __init__(self, terms: Terms = ORDINARY, kept: Any = None) -> None:
        self.inspector = Inspector(terms, kept)
        self.web = ClientProtocol(parse_uri("ws://127.0.0.1:9229/squash"))
        self.web.send_request(self.web.connect())
        self.flows: list[Flow] = []
        self.told: list[dict[str, Any]] = []
        """What the client got."""
        self.asked: list[dict[str, Any]] = []
        """What the process got."""
        self.over = False
        self._pass(self.inspector.from_client)
        assert self.web.state is State.OPEN

    @property
    def events(self) -> list[Event]:
        return [event for flow in self.flows for event in flow.events]

    def _pass(self, take: Callable[[bytes], Flow], sizes: tuple[int, ...] = (1 << 20,)) -> None:
        for piece in cut(b"".join(self.web.data_to_send()), list(sizes)):
            self.took(take(piece))

    def took(self, flow: Flow) -> Flow:
        self.flows.append(flow)
        self.over = self.over or flow.over
        self.asked += [json.loads(line) for line in b"".join(flow.server).splitlines()]
        self.web.receive_data(b"".join(flow.client))
        for frame in self.web.events_received():
            if isinstance(frame, Frame) and frame.opcode == Opcode.TEXT:
                self.told.append(json.loads(bytes(frame.data)))
        return flow

    def say(self, number: int, method: str, *, sizes: tuple[int, ...] = (1 << 20,), **params: Any) -> None:
        self.web.send_text(json.dumps({"id": number, "method": method, "params": params}).encode())
        self._pass(self.inspector.from_client, sizes)

    def raw(self, data: bytes) -> None:
        self.took(self.inspector.from_client(data))

    @property
    def quiet(self) -> bool:
        """Whether the process was asked nothing."""
        return self.asked == []

    def answer(self, number: int, **result: Any) -> None:
        self.took(self.inspector.from_server(line(id=number, result=result)))


def ready(talk: Talk) -> bool:
    return talk.inspector.ready


def line(**message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


def found(name: str = "1:6:0:file:///app/shop.js", *, locations: int = 1) -> dict[str, Any]:
    return {"breakpointId": name, "locations": [{"scriptId": "7", "lineNumber": 6}] * locations}

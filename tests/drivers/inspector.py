"""A client of Node's inspector (Chrome DevTools Protocol), as an editor drives it."""

import contextlib
import json
import socket
import time
from collections import deque
from http.client import HTTPConnection
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from squash.options import Address
from tests.drivers import PATIENCE, ClientError, Spot


class InspectorClient:
    def __init__(self, address: str, timeout: float = PATIENCE) -> None:
        self._address = address
        self._timeout = timeout
        self._number = 0
        self._events: deque[dict[str, Any]] = deque()
        self._frame: dict[str, Any] = {}
        self._breakpoint = ""
        self._closing = contextlib.ExitStack()
        options: dict[str, Any] = {"open_timeout": timeout, "compression": None, "max_size": None}
        self._web = self._closing.enter_context(connect(self._endpoint(), sock=self._dial(), **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, spot: Spot) -> None:
        self._ask("Runtime.enable")
        self._ask("Debugger.enable")
        found = self._ask("Debugger.setBreakpointByUrl", lineNumber=spot.line - 1, url=f"file://{spot.file}")
        if not found["locations"]:
            raise ClientError(f"breakpoint not verified: {found}")
        self._breakpoint = found["breakpointId"]
        self._ask("Runtime.runIfWaitingForDebugger")

    def stopped(self) -> str:
        event = self._event("Debugger.paused")
        if self._breakpoint not in event.get("hitBreakpoints", []):
            raise ClientError(f"stopped for another reason: {event['reason']}")
        self._frame = event["callFrames"][0]
        return f"{self._frame['functionName']}:{self._frame['location']['lineNumber'] + 1}"

    def value(self, name: str) -> int:
        found = self._ask("Runtime.getProperties", objectId=self._scope()[1]["object"]["objectId"])["result"]
        return int(next(each["value"]["value"] for each in found if each["name"] == name))

    def change(self, name: str, value: int) -> None:
        frame, number = self._frame["callFrameId"], self._scope()[0]
        new = {"value": value}
        self._ask("Debugger.setVariableValue", scopeNumber=number, variableName=name, newValue=new, callFrameId=frame)

    def go_on(self) -> None:
        self._ask("Debugger.resume")

    def leave(self) -> None:
        self._web.close()

    def close(self) -> None:
        # Without the words of a closing handshake.
        self._web.socket.close()
        self._closing.close()

    def _scope(self) -> tuple[int, dict[str, Any]]:
        return next((number, s) for number, s in enumerate(self._frame["scopeChain"]) if s["type"] == "local")

    def _dial(self) -> socket.socket:
        if self._address.startswith("unix:"):
            made = socket.socket(socket.AF_UNIX)
            made.settimeout(self._timeout)
            made.connect(self._address.removeprefix("unix:"))
            return made
        return socket.create_connection(Address.parse(self._address), self._timeout)

    def _endpoint(self) -> str:
        """Asks where the WebSocket is, as editors do, on a connection of its own."""
        asking = HTTPConnection("localhost", timeout=self._timeout)
        asking.sock = self._dial()
        try:
            asking.request("GET", "/json/list", headers={"Host": "localhost:9229"})
            return str(json.loads(asking.getresponse().read())[0]["webSocketDebuggerUrl"])
        finally:
            asking.close()

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._web.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            said = self._hear(time.monotonic() + self._timeout)
            if said.get("id") == self._number:
                break
            self._events.append(said)
        if "error" in said:
            raise ClientError(f"{method}: {said['error']}")
        result: dict[str, Any] = said["result"]
        return result

    def _event(self, method: str) -> dict[str, Any]:
        """The next event of this name; others before it are dropped."""
        deadline = time.monotonic() + self._timeout
        while True:
            said = self._events.popleft() if self._events else self._hear(deadline)
            if said.get("method") == method:
                found: dict[str, Any] = said["params"]
                return found

    def _hear(self, deadline: float) -> dict[str, Any]:
        try:
            said: dict[str, Any] = json.loads(self._web.recv(timeout=max(0.0, deadline - time.monotonic())))
        except ConnectionClosed as error:
            raise ClientError(f"the inspector hung up: {error}") from error
        return said

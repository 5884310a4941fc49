"""A small client of Node's inspector protocol, as Chrome DevTools and editors speak it."""

import contextlib
import json
import time
from collections import deque
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from demo.dialling import dial

Json = dict[str, Any]


class InspectorError(ValueError):
    """The inspector refused a request, or hung up."""


class Inspector:
    """Blocking; `timeout` in seconds for each answer and event, after which TimeoutError is raised."""

    def __init__(self, address: str, timeout: float = 20.0) -> None:
        """`address` as for `demo.dialling.dial`."""
        self._timeout = timeout
        options: Json = {"open_timeout": timeout, "compression": None, "max_size": None, "proxy": None}
        # First, for a debug server may take one connection at a time.
        url = _endpoint(address, timeout)
        with contextlib.ExitStack() as ends:
            line = ends.enter_context(contextlib.closing(dial(address, timeout)))
            self._line = ends.enter_context(connect(url, sock=line, **options))
            self._ends = ends.pop_all()
        self._number = 0
        self._events: deque[Json] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Takes leave. Idempotent."""
        self._ends.close()

    def hang_up(self) -> None:
        """Goes without a word, as who is killed does. Idempotent."""
        self._line.socket.close()
        self._ends.close()

    def ask(self, method: str, **parameters: Any) -> Json:
        """Sends a request and returns its result. Raises InspectorError."""
        self._number += 1
        self._line.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        deadline = time.monotonic() + self._timeout
        while (said := self._receive(deadline)).get("id") != self._number:
            self._events.append(said)
        if "error" in said:
            raise InspectorError(f"{method}: {said['error']['message']}")
        result: Json = said["result"]
        return result

    def event(self, method: str) -> Json:
        """The parameters of the next event of this name; others before it are dropped. Raises InspectorError."""
        deadline = time.monotonic() + self._timeout
        while True:
            said = self._events.popleft() if self._events else self._receive(deadline)
            if said.get("method") == method:
                parameters: Json = said["params"]
                return parameters

    def _receive(self, deadline: float) -> Json:
        try:
            said: Json = json.loads(self._line.recv(max(0.0, deadline - time.monotonic())))
        except ConnectionClosed as error:
            raise InspectorError(f"the inspector hung up: {error}") from error
        return said


def _endpoint(address: str, timeout: float) -> str:
    """Asks where the WebSocket is, as editors do, on a connection of its own."""
    asking = HTTPConnection("localhost", timeout=timeout)
    asking.sock = dial(address, timeout)
    with contextlib.closing(asking):
        asking.request("GET", "/json/list")
        return str(json.loads(asking.getresponse().read())[0]["webSocketDebuggerUrl"])

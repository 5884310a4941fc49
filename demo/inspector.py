"""A small client of Node's inspector protocol, as Chrome DevTools and editors speak it."""

import contextlib
import json
import urllib.request
from collections import deque
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import connect

Json = dict[str, Any]


class InspectorError(ValueError):
    """The inspector refused a request."""


class Inspector:
    """Blocking; `timeout` in seconds for each answer and event."""

    def __init__(self, address: str, timeout: float = 20.0) -> None:
        """`address` is that of a local end, HOST:PORT."""
        with urllib.request.urlopen(f"http://{address}/json/list", timeout=timeout) as answer:
            url = json.load(answer)[0]["webSocketDebuggerUrl"]
        self._timeout = timeout
        with contextlib.ExitStack() as ends:
            line = connect(url, compression=None, max_size=None, open_timeout=timeout, proxy=None)
            self._line = ends.enter_context(line)
            self._ends = ends.pop_all()
        self._number = 0
        self._events: deque[Json] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.close()

    def ask(self, method: str, **parameters: Any) -> Json:
        """Sends a request and returns its result. Raises InspectorError."""
        self._number += 1
        self._line.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (said := self._receive()).get("id") != self._number:
            self._events.append(said)
        if "error" in said:
            raise InspectorError(f"{method}: {said['error']['message']}")
        result: Json = said["result"]
        return result

    def event(self, method: str) -> Json:
        """The parameters of the next event of this name; others before it are dropped."""
        while True:
            said = self._events.popleft() if self._events else self._receive()
            if said.get("method") == method:
                parameters: Json = said["params"]
                return parameters

    def _receive(self) -> Json:
        said: Json = json.loads(self._line.recv(self._timeout))
        return said

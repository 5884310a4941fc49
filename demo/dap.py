"""A small client of the Debug Adapter Protocol, as an editor would speak it."""

import itertools
from collections import deque
from types import TracebackType
from typing import Any, Self

from demo.dialling import dial
from squash import dap

Json = dict[str, Any]


class DapError(Exception):
    """The debugger refused a request, or left."""


class Dap:
    """Blocking; `timeout` in seconds for each answer and event."""

    def __init__(self, address: str, timeout: float = 20.0) -> None:
        """`address` as for `demo.dialling.dial`."""
        self._socket = dial(address, timeout)
        self._reader = dap.Reader()
        self._numbers = itertools.count(1)
        self._answers: dict[int, Json] = {}
        self._events: deque[Json] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def attach(self, breakpoints: dict[str, list[int]], **arguments: Any) -> Json:
        """The whole handshake, with breakpoints by file, up to configurationDone. Returns the breakpoints as set.

        `arguments` are those of the attach request, for another debugger than debugpy.
        """
        self.initialize()
        return self.configure(breakpoints, **arguments)

    def initialize(self) -> None:
        """The first half of the handshake: what a client is."""
        self.ask("initialize", adapterID="squash", pathFormat="path", linesStartAt1=True, columnsStartAt1=True)

    def configure(self, breakpoints: dict[str, list[int]], **arguments: Any) -> Json:
        """The second half, as `attach` has it."""
        attach = self.send("attach", **(arguments or {"justMyCode": False}))
        self.event("initialized")
        found = {}
        for path, lines in breakpoints.items():
            wanted = [{"line": line} for line in lines]
            found[path] = self.ask("setBreakpoints", source={"path": path}, breakpoints=wanted)["breakpoints"]
        self.ask("configurationDone")
        self.answer(attach)
        return found

    def ask(self, command: str, **arguments: Any) -> Json:
        """Sends a request and returns the body of its answer. Raises DapError."""
        return self.answer(self.send(command, **arguments))

    def send(self, command: str, **arguments: Any) -> int:
        number = next(self._numbers)
        self._socket.sendall(dap.message(seq=number, type="request", command=command, arguments=arguments))
        return number

    def answer(self, number: int) -> Json:
        while number not in self._answers:
            self._read()
        found = self._answers.pop(number)
        if not found["success"]:
            raise DapError(f"{found['command']}: {found.get('message')}")
        body: Json = found.get("body") or {}
        return body

    def event(self, name: str) -> Json:
        """The body of the next event of this name; others before it are dropped."""
        while True:
            while self._events:
                event = self._events.popleft()
                if event["event"] == name:
                    body: Json = event.get("body") or {}
                    return body
            self._read()

    def _read(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise DapError("the debugger closed the connection")
        for raw in self._reader.feed(data):
            message = dap.decode(raw)
            if message["type"] == "response":
                self._answers[message["request_seq"]] = message
            elif message["type"] == "event":
                self._events.append(message)

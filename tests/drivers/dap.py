"""A client of the Debug Adapter Protocol, as an editor drives it."""

import contextlib
from typing import Any, ClassVar, Self

from demo.dap import Dap, DapError
from tests.drivers import PATIENCE, ClientError, Spot


class DapClient:
    arguments: ClassVar[dict[str, Any]] = {"justMyCode": False}
    """Of the `attach` request."""

    def __init__(self, address: str, timeout: float = PATIENCE) -> None:
        self._dap = Dap(address, timeout)
        try:
            self._dap.initialize()
        except BaseException:
            self.close()
            raise
        self._thread = 0
        self._frame: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, spot: Spot) -> None:
        (found,) = self._dap.configure({spot.file: [spot.line]}, **self.arguments)[spot.file]
        if not found["verified"]:
            raise ClientError(f"breakpoint not verified: {found}")

    def stopped(self) -> str:
        event = self._dap.event("stopped")
        if event["reason"] != "breakpoint":
            raise ClientError(f"stopped for another reason: {event}")
        self._thread = event["threadId"]
        self._frame = self._dap.ask("stackTrace", threadId=self._thread, startFrame=0, levels=1)["stackFrames"][0]
        return f"{self._frame['name'].rpartition('.')[2]}:{self._frame['line']}"

    def value(self, name: str) -> int:
        return int(next(found["value"] for _, found in self._variables() if found["name"] == name))

    def change(self, name: str, value: int) -> None:
        scope = next(scope for scope, found in self._variables() if found["name"] == name)
        self._dap.ask("setVariable", variablesReference=scope, name=name, value=str(value))

    def go_on(self) -> None:
        # debugpy answers when every thread has gone on, and until then others may have stopped: nobody waits for it.
        self._dap.send("continue", threadId=self._thread)

    def leave(self) -> None:
        self._dap.ask("disconnect", terminateDebuggee=False)

    def close(self) -> None:
        self._dap.close()

    def _variables(self) -> list[tuple[int, dict[str, Any]]]:
        """Everything in the scopes of the frame, each with its scope's number."""
        scopes = self._dap.ask("scopes", frameId=self._frame["id"])["scopes"]
        numbers = [scope["variablesReference"] for scope in scopes if not scope.get("expensive")]
        return [
            (number, found)
            for number in numbers
            for found in self._dap.ask("variables", variablesReference=number)["variables"]
        ]


class DelveClient(DapClient):
    """Delve, told to debug what it is attached to already."""

    arguments: ClassVar[dict[str, Any]] = {"mode": "remote", "stopOnEntry": False}


def until_closed(client: Dap) -> None:
    """Returns when the debugger's end is closed, after whatever else it said."""
    with contextlib.suppress(DapError, ConnectionError):
        client.event("none of the protocol's")

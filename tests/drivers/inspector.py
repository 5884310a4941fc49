"""A client of Node's inspector (Chrome DevTools Protocol), as an editor drives it."""

from typing import Any, Self

from demo.inspector import Inspector
from tests.drivers import PATIENCE, ClientError, Spot


class InspectorClient:
    def __init__(self, address: str, timeout: float = PATIENCE) -> None:
        self._inspector = Inspector(address, timeout)
        self._frame: dict[str, Any] = {}
        self._breakpoint = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, spot: Spot) -> None:
        ask = self._inspector.ask
        ask("Runtime.enable")
        ask("Debugger.enable")
        found = ask("Debugger.setBreakpointByUrl", lineNumber=spot.line - 1, url=f"file://{spot.file}")
        if not found["locations"]:
            raise ClientError(f"breakpoint not verified: {found}")
        self._breakpoint = found["breakpointId"]
        ask("Runtime.runIfWaitingForDebugger")

    def stopped(self) -> str:
        event = self._inspector.event("Debugger.paused")
        if self._breakpoint not in event.get("hitBreakpoints", []):
            raise ClientError(f"stopped for another reason: {event['reason']}")
        self._frame = event["callFrames"][0]
        return f"{self._frame['functionName']}:{self._frame['location']['lineNumber'] + 1}"

    def value(self, name: str) -> int:
        local = self._scope()[1]["object"]["objectId"]
        found = self._inspector.ask("Runtime.getProperties", objectId=local)["result"]
        return int(next(each["value"]["value"] for each in found if each["name"] == name))

    def change(self, name: str, value: int) -> None:
        self._inspector.ask(
            "Debugger.setVariableValue",
            scopeNumber=self._scope()[0],
            variableName=name,
            newValue={"value": value},
            callFrameId=self._frame["callFrameId"],
        )

    def go_on(self) -> None:
        self._inspector.ask("Debugger.resume")

    def leave(self) -> None:
        self._inspector.close()

    def close(self) -> None:
        self._inspector.hang_up()

    def _scope(self) -> tuple[int, dict[str, Any]]:
        return next((number, s) for number, s in enumerate(self._frame["scopeChain"]) if s["type"] == "local")

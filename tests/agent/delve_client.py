"""Clients of delve that say exactly what a test wants, in either of its protocols."""

import asyncio
import json
from typing import Any

from agent.streams import Stream
from squash.dap import Reader, message
from tests.agent.goservice import BREAK, LIMIT, SOURCE


class Rpc:
    """JSON-RPC."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._number = 0

    def say(self, method: str, **given: Any) -> int:
        self._number += 1
        text = {"method": f"RPCServer.{method}", "params": [given], "id": self._number}
        self.stream.writer.write(json.dumps(text).encode())
        return self._number

    async def answer(self) -> dict[str, Any]:
        """Empty when the stream has ended."""
        async with asyncio.timeout(LIMIT):
            said = await self.stream.reader.readline()
        found: dict[str, Any] = json.loads(said) if said else {}
        return found

    async def ask(self, method: str, **given: Any) -> Any:
        number = self.say(method, **given)
        while (answer := await self.answer())["id"] != number:
            pass  # of a `continue` before it
        assert answer["error"] is None, answer
        return answer["result"]

    async def break_at(self, line: int = BREAK) -> int:
        """The address."""
        made = await self.ask("CreateBreakpoint", Breakpoint={"file": str(SOURCE), "line": line})
        return int(made["Breakpoint"]["addr"])

    async def stop(self) -> dict[str, Any]:
        """The answer to a `continue`: where the process stands now."""
        return dict((await self.answer())["result"]["State"])

    async def args(self) -> dict[str, str]:
        found = await self.ask("ListFunctionArgs", Scope={"GoroutineID": -1, "Frame": 0}, Cfg={})
        return {each["name"]: each["value"] for each in found["Args"]}


class DapClient:
    """The Debug Adapter Protocol."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._reader = Reader()
        self._heard: list[dict[str, Any]] = []
        self._number = 0

    def say(self, command: str, **arguments: Any) -> int:
        self._number += 1
        self.stream.writer.write(message(seq=self._number, type="request", command=command, arguments=arguments))
        return self._number

    async def hear(self) -> dict[str, Any]:
        """Empty when the stream has ended."""
        async with asyncio.timeout(LIMIT):
            while not self._heard:
                data = await self.stream.reader.read(65_536)
                if not data:
                    return {}
                self._heard += [json.loads(raw) for raw in self._reader.feed(data)]
        return self._heard.pop(0)

    async def event(self, name: str) -> dict[str, Any]:
        while (said := await self.hear()).get("event") != name:
            assert said, f"no event {name}"
        return dict(said.get("body") or {})

    async def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        number = self.say(command, **arguments)
        while (said := await self.hear()).get("request_seq") != number:
            assert said, f"no answer to {command}"
        assert said["success"], said
        return dict(said.get("body") or {})

    async def begin(self, line: int = BREAK) -> None:
        """Until the process runs, with a breakpoint."""
        await self.ask("initialize", adapterID="go", linesStartAt1=True, pathFormat="path")
        self.say("attach", mode="local", processId=1)
        await self.event("initialized")
        await self.ask("setBreakpoints", source={"path": str(SOURCE)}, breakpoints=[{"line": line}])
        await self.ask("configurationDone")

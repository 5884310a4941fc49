"""Node processes to be debugged, and a client that speaks to their inspector as editors do."""

import asyncio
import http.client
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, unix_connect

from agent.debuggers.node import Node, NodeServer
from agent.process import Process
from agent.terms import ORDINARY, Terms
from squash import procfs
from squash.tasks import spawn
from tests.agent.targets import NAMESPACE, session, target
from tests.eventually import eventually

PROGRAM = Path(__file__).parent / "debuggee.js"
URL = f"file://{PROGRAM}"
LINE = next(n for n, text in enumerate(PROGRAM.read_text().splitlines()) if "the tests break here" in text)
"""As the inspector counts: from 0."""
PATIENCE = 60.0


class Service:
    """tests/agent/debuggee.js, called over HTTP."""

    def __init__(
        self,
        *words: str,
        node: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        **process: Any,
    ) -> None:
        # All tests share one loopback, and so would their inspectors their port; any other is as good.
        named = "inspect" in " ".join([*node, *(environment or {}).values()])
        options = node if named else (*node, "--inspect-port=0")
        self.child = subprocess.Popen(
            [*prefix, "node", *options, str(PROGRAM), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "SQUASH_NAMESPACE": NAMESPACE, **(environment or {})},
            **process,
        )
        assert self.child.stdout
        line = self.child.stdout.readline()
        assert line, self.child.communicate()
        self.port = json.loads(line)["port"]

    @property
    def pid(self) -> int:
        return self.child.pid

    def facts(self) -> Process:
        found = Process.read(self.pid)
        assert found
        return found

    def ask(self, *words: object) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", "/" + "/".join(map(str, words)), headers={"Connection": "close"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    async def asks(self, *words: object) -> Any:
        return await asyncio.to_thread(self.ask, *words)

    async def complaint(self) -> str:
        """The next line of its standard error."""
        assert self.child.stderr
        async with asyncio.timeout(PATIENCE):
            return await asyncio.to_thread(self.child.stderr.readline)

    def outside(self) -> dict[str, Any]:
        """What the kernel tells of the process, and it of itself."""
        status = procfs.status(self.pid)
        assert status
        return {
            "inside": self.ask("look"),
            "threads": int(status["Threads"]),
            "files": len(os.listdir(f"/proc/{self.pid}/fd")),
            "listening": procfs.listening(self.pid),
            "tracer": status["TracerPid"],
        }

    async def settled(self, before: object) -> object:
        """What it looks like, as soon as it looks like before; else after a minute.

        Threads end after they say so, and Node looks for connections that are over every 30 seconds.
        """
        return await asyncio.to_thread(eventually, self.outside, lambda now: now == before, 60)


@contextmanager
def service(*words: str, **how: Any) -> Iterator[Service]:
    """Ends it afterwards; that it ran until then is part of every test."""
    found = Service(*words, **how)
    try:
        yield found
        assert found.child.poll() is None, found.child.communicate()
    finally:
        found.child.kill()
        found.child.communicate()


class RefusedError(Exception):
    """The inspector answered with an error."""


class Client:
    """A client of the inspector protocol."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.events: list[dict[str, Any]] = []
        self._number = 0

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Raises RefusedError."""
        number = await self.say(method, **params)
        async with asyncio.timeout(PATIENCE):
            while (said := await self._next()).get("id") != number:
                self.events.append(said)
        if "error" in said:
            raise RefusedError(said["error"]["message"])
        found: dict[str, Any] = said["result"]
        return found

    async def say(self, method: str, **params: Any) -> int:
        self._number += 1
        await self.connection.send(json.dumps({"id": self._number, "method": method, "params": params}))
        return self._number

    async def event(self, method: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE):
            while not (found := [said for said in self.events if said.get("method") == method]):
                self.events.append(await self._next())
        self.events.remove(found[0])
        params: dict[str, Any] = found[0]["params"]
        return params

    async def _next(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(await self.connection.recv())
        return said

    async def begin(self, *lines: int, condition: str = "", gate: bool = True) -> list[dict[str, Any]]:
        """As VS Code does: breakpoints first, and then the program may run. Returns the answers."""
        await self.ask("Runtime.enable")
        await self.ask("Debugger.enable")
        more = {"condition": condition} if condition else {}
        answers = [await self.ask("Debugger.setBreakpointByUrl", url=URL, lineNumber=n, **more) for n in lines]
        if gate:
            await self.ask("Runtime.runIfWaitingForDebugger")
        return answers

    async def locals(self, paused: dict[str, Any]) -> dict[str, Any]:
        scope = paused["callFrames"][0]["scopeChain"][0]["object"]["objectId"]
        found = (await self.ask("Runtime.getProperties", objectId=scope, ownProperties=True))["result"]
        return {each["name"]: each["value"].get("value") for each in found}

    async def change(self, paused: dict[str, Any], name: str, value: object) -> None:
        frame = paused["callFrames"][0]["callFrameId"]
        await self.ask(
            "Debugger.setVariableValue",
            scopeNumber=0,
            variableName=name,
            newValue={"value": value},
            callFrameId=frame,
        )

    async def leave(self) -> None:
        await self.connection.close()

    def vanish(self) -> None:
        self.connection.transport.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.connection.close()


@asynccontextmanager
async def client(address: str) -> AsyncIterator[Client]:
    """At the socket that `status.debug_server_address` names."""
    path = address.removeprefix("unix:")
    async with unix_connect(path, "ws://localhost/squash", compression=None, max_size=None) as connection:
        yield Client(connection)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


@asynccontextmanager
async def attached(running: Service, short: Path, terms: Terms = ORDINARY) -> AsyncIterator[tuple[NodeServer, str]]:
    """The debugger in the process, and the address of a session on it."""
    debugger = Node()
    server = await debugger.attach(target(running.facts(), short))
    try:
        async with session(debugger, server, short, terms) as address:
            yield server, address
    finally:
        await server.detach()


async def stop_at_price(caller: Client, running: Service, *, change: int | None = None) -> dict[str, Any]:
    """A client's whole visit: a breakpoint, a request that runs into it, a look at the locals, and on."""
    answers = await caller.begin(LINE)
    assert len(answers[0]["locations"]) == 1
    request = spawn(running.asks("price", 5), "request")
    paused = await caller.event("Debugger.paused")
    seen = await caller.locals(paused)
    if change is not None:
        await caller.change(paused, "total", change)
    await caller.ask("Debugger.resume")
    line = paused["callFrames"][0]["location"]["lineNumber"]
    return {"line": line, "locals": seen, "answer": await request}

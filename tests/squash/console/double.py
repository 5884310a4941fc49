"""A debug server that says what a test wants: for whatever a real one never does, or not when it should."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from squash import dap
from squash.cli.console.app import HANDLERS
from squash.cli.console.console import Console, QuitError, Terms
from squash.cli.console.dap_client import DapClient
from squash.cli.console.screen import Screen
from squash.cli.console.session import Session
from squash.tasks import spawn

Json = dict[str, Any]
FRAME = {"id": 1, "name": "total", "line": 2, "source": {"path": "/nowhere/app.py"}}
ANSWERS: dict[str, Json] = {
    "threads": {"threads": [{"id": 1, "name": "main"}]},
    "stackTrace": {"stackFrames": [FRAME]},
    "scopes": {"scopes": [{"name": "Locals", "variablesReference": 5}]},
    "variables": {"variables": [{"name": "n", "value": "3"}]},
    "evaluate": {"result": "42", "type": "int"},
}


class Silent:
    """Nobody types."""

    interactive = False

    def __init__(self) -> None:
        self.impatient = asyncio.Event()
        self.asked = asyncio.Event()

    async def line(self, _prompt: Callable[[], str]) -> str | None:
        return None

    async def enough(self, *, resting: bool) -> None:
        self.asked.set()
        await self.impatient.wait()
        if resting:
            raise QuitError


class Double:
    """The server's end of a connection, and a console at the other."""

    def __init__(self, capabilities: Json | None = None) -> None:
        self.capabilities = capabilities or {}
        self.answers = dict(ANSWERS)
        self.asked: list[Json] = []
        self.mute: set[str] = set()
        """Commands that get no answer."""
        self.refused: dict[str, str] = {}
        """Commands that are refused, and how."""
        self.after: dict[str, list[Json]] = {}
        """Events that come after the answer to a command."""
        self.before: dict[str, list[Json]] = {}
        """Events that come before it."""
        self.said: list[str] = []
        self._heard = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []

    async def start(self, *, read_only: bool = False, may_kill: bool = False) -> Console:
        ours, theirs = socket.socketpair()
        self._reader, self.writer = await asyncio.open_connection(sock=theirs)
        screen = Screen()
        screen.say = lambda *lines, style="": self.said.extend(lines)  # type: ignore[method-assign]
        session = Session(screen.told)
        self.input = Silent()
        terms = Terms("att", may_kill=may_kill, read_only=read_only, waiting="GET /cart")
        self.console = Console(session, screen, self.input, terms, HANDLERS)
        session.patience = self.console.patience
        self.client = DapClient(*await asyncio.open_connection(sock=ours), session.on_event)
        self._tasks = [
            spawn(self._serve(), "double"),
            spawn(self._read(session), "client"),
            spawn(self.console.announce(), "announcements"),
        ]
        return self.console

    async def attached(self, **terms: bool) -> Console:
        console = await self.start(**terms)
        await console.session.attach(self.client)
        return console

    async def standing(self, **terms: bool) -> Console:
        """At a breakpoint, which came as soon as it was ready."""
        self.after.setdefault("configurationDone", [event("stopped", reason="breakpoint", threadId=1)])
        self.capabilities = {"supportsConfigurationDoneRequest": True} | self.capabilities
        console = await self.attached(**terms)
        assert await console.run_line("continue") == ""
        return console

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self.writer.close()

    async def heard(self, command: str) -> None:
        """Returns when the command has come."""
        while command not in self.commands():
            self._heard.clear()
            await self._heard.wait()

    def send(self, *messages: Json) -> None:
        self.writer.write(b"".join(dap.message(**each) for each in messages))

    def commands(self) -> list[str]:
        return [each["command"] for each in self.asked]

    async def _read(self, session: Session) -> None:
        await self.client.run()
        session.lost()

    async def _serve(self) -> None:
        reader = dap.Reader()
        while data := await self._reader.read(65_536):
            for raw in reader.feed(data):
                self._answer(dap.decode(raw))

    def _answer(self, asked: Json) -> None:
        command = asked.get("command", "")
        if asked.get("type") != "request":
            self.asked.append({"command": "answered", **asked})
            return
        self.asked.append(asked)
        self._heard.set()
        if command in self.mute:
            return
        to = {"type": "response", "request_seq": asked["seq"], "command": command}
        refusal = self.refused.get(command)
        body = {"initialize": self.capabilities}.get(command, self.answers.get(command, {}))
        answer = {**to, "success": not refusal, **({"message": refusal} if refusal else {"body": body})}
        attached = [event("initialized")] if command == "attach" else []
        self.send(*self.before.get(command, []), answer, *attached, *self.after.get(command, []))


def event(name: str, **body: Any) -> Json:
    return {"type": "event", "event": name, "body": body}

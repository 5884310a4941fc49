"""What could come next in a line: commands, sources, variables."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from squash.cli.console import messages as m
from squash.cli.console.commands import COMMANDS, STATEMENT, Command, Takes, parse
from squash.cli.console.console import Console
from squash.cli.console.dap_client import LostError, RefusedError
from squash.cli.console.debuggee import Stage

PATIENCE = 3.0
"""Seconds for a debug server's suggestions; later ones are of no use to somebody who types."""
MOST = 200


class Completion:
    def __init__(self, console: Console) -> None:
        self._console = console

    async def suggest(self, text: str) -> AsyncIterator[tuple[int, str]]:
        """For the text before the cursor: how many characters of it to replace, and by what."""
        try:
            async with asyncio.timeout(PATIENCE):
                found = await self._found(text)
        except (RefusedError, LostError, TimeoutError):
            return
        for replaced, suggestion in found[:MOST]:
            yield replaced, suggestion

    async def _found(self, text: str) -> list[tuple[int, str]]:
        typed = text.lstrip()
        first, space, rest = typed.partition(" ")
        command = COMMANDS.get(first)
        if typed.startswith(STATEMENT):
            return await self._code(typed[1:])
        if not space:
            names = sorted(name for name in COMMANDS if name.startswith(first) and len(name) > 1)
            return [(len(first), name) for name in names] or await self._code(typed)
        parsed = parse(typed)
        if command is None or (parsed and parsed.command is not command and rest.strip()):
            return await self._code(typed)
        return await self._argument(command, rest.lstrip())

    async def _argument(self, command: Command, text: str) -> list[tuple[int, str]]:
        if command.takes is Takes.EXPRESSION:
            return await self._code(text)
        if command.takes is Takes.PLACE:
            _, condition, expression = text.partition(" if ")
            return await self._code(expression) if condition else await self._files(text)
        if command.name == "help":
            return [(len(text), name) for name in sorted(COMMANDS) if name.startswith(text)]
        if command.name == "exceptions":
            offered = self._console.session.capabilities.exception_breakpoint_filters or []
            word = text.rpartition(" ")[2]
            return [(len(word), each.filter) for each in offered if each.filter.startswith(word)]
        return []

    async def _files(self, text: str) -> list[tuple[int, str]]:
        """Sources that the process has loaded, by their path or its end, and files of this machine."""
        if ":" in text or " " in text:
            return []
        known = await self._console.session.known()
        found = {path for path in known if path.startswith(text)} if text.startswith("/") else set()
        if not text.startswith("/"):
            found = {name for path in known if (name := path.rpartition("/")[2]).startswith(text)}
        here = Path(text).parent if not text.endswith("/") else Path(text)
        try:
            beside = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError:
            beside = []
        for entry in beside:
            name = str(here / entry.name) + ("/" if entry.is_dir() else "")
            if name.startswith(text) and not entry.name.startswith("."):
                found.add(name)
        return [(len(text), f"{name}:" if not name.endswith("/") else name) for name in sorted(found)]

    async def _code(self, text: str) -> list[tuple[int, str]]:
        session = self._console.session
        frame = session.debuggee.frame
        if session.debuggee.stage is not Stage.STOPPED or not frame:
            return []
        word = _last_word(text)
        if session.capabilities.supports_completions_request:
            answer = await session.ask(
                "completions", m.Completions, frameId=frame.id, text=text, column=len(text) + 1, line=1
            )
            suggestions = [each.text or each.label for each in answer.targets]
            tail = word.rpartition(".")[2]
            return [(len(tail), each) for each in suggestions if each.startswith(tail)]
        return [(len(word), each.name) for each in await session.locals() if each.name.startswith(word)]


def _last_word(text: str) -> str:
    index = len(text)
    while index and (text[index - 1].isalnum() or text[index - 1] in "_."):
        index -= 1
    return text[index:]

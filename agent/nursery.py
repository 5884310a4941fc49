"""Guards (agent.guarded) that wait for a client: started ahead, because their own start takes longer than all else.

A guard that waits belongs to no process yet, and touches none. It ends when our end of the line to it closes.
"""

import asyncio
import contextlib
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import agent
from agent.streams import Stream
from squash.tasks import spawn

END = 1.0
"""Seconds for a guard that waits to end, which it does at once."""


@dataclass
class Guard:
    process: asyncio.subprocess.Process
    line: Stream
    """Its end means to it: leave."""


class Nursery:
    """Keeps one guard of each kind waiting, from the first attach on that may want it."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Task[Guard]] = {}
        self._closed = False

    def prepare(self, module: str) -> None:
        """Sees that one waits whose `main` is in this module."""
        if module not in self._waiting and not self._closed:
            self._waiting[module] = spawn(start(module), f"start of a guard of {module}")

    async def take(self, module: str) -> Guard:
        """The one that waits, or else another. It may have died. Raises OSError."""
        if waiting := self._waiting.get(module):
            await asyncio.wait({waiting})
            if self._waiting.get(module) is waiting:
                del self._waiting[module]
                if not waiting.cancelled() and not waiting.exception():
                    return waiting.result()
        return await start(module)

    async def close(self) -> None:
        """Ends those that wait; no others come."""
        self._closed = True
        for starting in self._waiting.values():
            await asyncio.wait({starting})
            if starting.cancelled() or starting.exception():
                continue
            guard = starting.result()
            await guard.line.close()
            try:
                async with asyncio.timeout(END):
                    await guard.process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    guard.process.kill()
                await guard.process.wait()
        self._waiting.clear()


async def start(module: str) -> Guard:
    """A guard that waits for its summons. Raises OSError."""
    root = str(Path(agent.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {root!r}); from {module} import main; main()"
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", code),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        return Guard(process, Stream(*await asyncio.open_unix_connection(sock=ours)))
    except BaseException:
        ours.close()
        raise

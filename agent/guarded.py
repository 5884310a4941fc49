"""A debug server that runs only while a client is there, behind a guard: a process of its own, which outlives us.

Debuggers that stop what they attach to, and whose death would kill it, are kept like that. The guard starts the
debugger, and sees to it that the process is free when our end of the line to it closes, for whatever reason.
"""

import asyncio
import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from agent import rescue
from agent.nursery import Guard, Nursery, start
from agent.process import Process
from agent.rescue import Notes
from agent.streams import Stream
from agent.summons import summons
from agent.terms import ORDINARY, Terms
from squash import procfs
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason
from squash.tasks import spawn

CONNECT = 5.0
"""Seconds for a debugger to attach that takes a few milliseconds."""
GUARD = 9.0
"""Seconds for the guard to free the process: its own limits and a little for a busy machine."""
NOTES = "guard.json"
ATTACHED = "attached"
"""First word of what a guard says on its standard error when the debugger sits in the process."""


class Guarded(ABC):
    """One process's debug server: a guard and a debugger for each client, and no debugger between clients."""

    module: str
    """Of the guard: its `main` is run. In its summons come the pid, the path for the notes, `arguments`, and the terms
    that hold."""

    def __init__(self, process: Process, directory: Path, log: Log, guards: Nursery | None) -> None:
        """`guards`: where a guard may be waiting; without it each is started when its client comes."""
        self._process = process
        self._guards = guards
        self._notes = directory / NOTES
        self._log = log
        self._ended = asyncio.Event()
        self._guard: Guard | None = None
        self._watching: asyncio.Task[None] | None = None
        try:
            self._pidfd = procfs.handle(process.pid)
        except ProcessLookupError:
            raise SquashError(Reason.PROCESS_GONE, f"process {process.pid} is gone") from None
        asyncio.get_running_loop().add_reader(self._pidfd, self._over)

    @abstractmethod
    def _arguments(self) -> Sequence[str]:
        """What its guard is told besides."""

    @abstractmethod
    def _free(self, patience: float) -> bool:
        """Frees the process by the notes of a guard that is given `patience` seconds. Blocks; whether it is free."""

    def _patience(self) -> float:
        """Seconds for the debugger to attach when a client comes. More than the guard's own, which can say why."""
        return CONNECT

    async def _dial(self, line: Stream, words: str) -> Stream:
        """The stream for the client: the line to the guard itself, unless it says otherwise in `words`."""
        return line

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        """Attaches. The process is stopped from here on until the client lets it run, or leaves.

        So a session calls this at a client's first byte, and does not wait for ever. Raises OSError
        when the debugger cannot attach.
        """
        await self.disconnected()
        if self._ended.is_set():
            raise ConnectionError(f"process {self._process.pid} is gone")
        try:
            words = await self._summon(await self._guards.take(self.module), terms) if self._guards else ""
            if not words:
                await self.disconnected()  # the one that waited has died meanwhile
                words = await self._summon(await start(self.module), terms)
            if not words.startswith(ATTACHED) or self._guard is None:
                raise ConnectionError(words or "the guard died")
            return await self._dial(self._guard.line, words)
        except BaseException:
            await self.disconnected()
            raise

    async def _summon(self, guard: Guard, terms: Terms) -> str:
        """Its first word; empty when it died without one. Raises TimeoutError."""
        said: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._guard, self._watching = guard, spawn(self._watch(guard.process, said), f"guard of {self._process.pid}")
        given = [name for name, holds in terms._asdict().items() if holds]
        words = [str(self._process.pid), str(self._notes), *self._arguments(), *given]
        guard.line.writer.write(summons(words))
        async with asyncio.timeout(self._patience()):
            return await said

    async def disconnected(self) -> None:
        """The stream must be closed. Returns when the process is free, which takes some milliseconds as a rule."""
        guard, watching = self._guard, self._watching
        if guard is None or watching is None:
            return
        await guard.line.close()
        await asyncio.wait({watching}, timeout=GUARD)
        if not watching.done():
            self._log.warning("the guard does not end")
            with contextlib.suppress(ProcessLookupError):
                guard.process.kill()
            await asyncio.wait({watching})
        self._guard = self._watching = None
        self.prepare()

    async def ended(self) -> None:
        await self._ended.wait()

    async def detach(self) -> None:
        await self.disconnected()
        self._over()

    def prepare(self) -> None:
        """Sees that a guard waits for the next client."""
        if self._guards:
            self._guards.prepare(self.module)

    async def _watch(self, guard: asyncio.subprocess.Process, said: "asyncio.Future[str]") -> None:
        """Until the guard has ended and the process is free."""
        words = ""
        if guard.stderr:
            while line := (await guard.stderr.readline()).decode(errors="replace").strip():
                words = line
                if not said.done():
                    said.set_result(line)
        status = await guard.wait()
        if status:
            self._log.warning("the debugger ended", status=status, words=words)
            if not await asyncio.to_thread(self._free, 0.0):
                self._log.error("the process could not be freed")
            if said.done() and said.result().startswith(ATTACHED):
                self._ended.set()
        if not said.done():
            said.set_result(words)

    def _over(self) -> None:
        self._ended.set()
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def await_guard(path: Path, patience: float) -> bool:
    """Gives a guard that is at it `patience` seconds, then ends it. False when there is nothing left to do."""
    notes = Notes.load(path)
    if notes is None:
        return False
    if notes.guard.alive and not rescue.reap(notes.guard.pid, patience):
        with contextlib.suppress(ProcessLookupError):
            os.kill(notes.guard.pid, 9)
        rescue.reap(notes.guard.pid, 1.0)
    return True

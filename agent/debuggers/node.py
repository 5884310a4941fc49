"""Node.js by pid: its own inspector, reached from a worker thread of the process, over unix sockets.

SIGUSR1 makes Node listen on a port of its loopback, which anybody in the pod could use. So that port serves once: by it
the agent brings in a worker (inside/attach.js), which dials the agent, and the port is closed again, a few milliseconds
after it was opened (`agent.nodeport`). A process that was started with --inspect keeps the port that it had.
"""

import asyncio
import functools
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any
from weakref import WeakValueDictionary

from agent import nodeport
from agent.debuggers import Target, attempt
from agent.elf import NotElfError, dynamic_symbols
from agent.inner import Inner, take_out_left_behind
from agent.line import Line
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding, ok, refused, warning
from agent.preflight.needs import MEGABYTE, Needs
from agent.process import Process
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash import procfs
from squash.errors import SquashError
from squash.logs import Log
from squash.model import Attempt
from squash.reasons import Reason
from squash.tasks import spawn

INSIDE = Path(__file__).parent / "inside" / "attach.js"
ARRIVE = 10.0
"""Seconds for the main thread to run JavaScript, and for the worker to dial then."""
DETACH = 5.0
"""Seconds for the main thread to be let go before the agent hangs up; hanging up has the worker go by itself."""
_CHECK = "inspector"
_NAMES = re.compile(r"node(js)?(-?\d+(\.\d+)*)?|nsolid")
_STARTERS = re.compile(r"(npm|npx|yarn|pnpm|pnpx|nodemon|pm2|forever|concurrently|corepack|tsx|ts-node-dev)\b")
"""Programs in Node that start the one that is meant."""
_EXPORTED = frozenset({"napi_module_register"})
"""What every build of Node exports, for its add-ons: also one with a program built in, under any name."""
_log = Log("node")


class Node:
    name = "node"
    protocol = "inspector"
    needs = Needs(signals=True, directory=True, network=True, runs_code=True, memory=14 * MEGABYTE)

    def __init__(self) -> None:
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By network namespace: all processes in one want the same port."""

    def examine(self, facts: Facts) -> Iterator[Finding]:
        """How its inspector can be opened, or where it is open already."""
        process = facts.process
        try:
            nodeport.check(process)
        except SquashError as error:
            yield refused(_CHECK, error.reason, error.message)
            return
        host = nodeport.open_at(process)
        if host and not nodeport.Place(host, 0).loopback:
            message = f"its own inspector listens on {host}: whoever reaches its port controls it"
            yield warning(_CHECK, message, "start it with --inspect=127.0.0.1, or without")
        else:
            yield ok(_CHECK, f"started with an inspector on {host}" if host else "SIGUSR1 opens it")

    def claim(self, process: Process) -> float:
        """Sure of a program named node; less so of what only starts another, or keeps it running."""
        if not _is_node(process):
            return -1.0
        if _STARTERS.match(_title(process)):
            return 0.6
        return 0.7 if nodeport.cluster_workers(process) else 0.9

    async def attach(self, target: Target) -> "NodeServer":
        process = target.process
        line = Line(process, Inner(process, target.directory))
        began = time.monotonic()
        try:
            await asyncio.to_thread(line.inner.make, self.needs.files)
            await line.listen()
            port = await self._bring_in(target, line)
            await _arrival(process, line, port)
        except SquashError as failure:
            target.attempts.append(attempt("inspector, worker thread", began, failure))
            await line.close()
            raise
        except BaseException:
            await line.close()
            raise
        if port.remark:
            _log.warning(port.remark, pid=process.pid)
        seconds = time.monotonic() - began
        target.attempts.append(
            Attempt(strategy="inspector, worker thread", seconds=seconds, message=port.remark or None)
        )
        return NodeServer(process, line)

    async def _bring_in(self, target: Target, line: Line) -> nodeport.Port:
        """Asks for the worker, one process of a network at a time. Raises SquashError."""
        process = target.process
        job = {"path": line.path, "ticket": line.ticket, "source": INSIDE.read_text()}
        turn = self._turns.setdefault(procfs.namespace(process.pid, "net"), asyncio.Lock())
        async with turn:
            note = _note(target.directory)
            note.write_text(json.dumps({"pid": process.pid, "start_time": process.start_time}))
            # Both take their course when nobody waits any more: a port that was opened must be closed.
            asked = spawn(asyncio.to_thread(_asked, process, job), f"inspector of {process.pid}")
            target.unfinished.append(spawn(_closed(asked, note), f"port of the inspector of {process.pid}"))
            try:
                found = await asyncio.shield(asked)
            except asyncio.CancelledError:
                await asyncio.wait({asked})
                raise
            if isinstance(found, SquashError):
                raise found
            return found

    async def recover(self, directory: Path) -> None:
        """Closes a port that was just being used, and takes the socket out of the container.

        The worker ended with the agent's control line.
        """
        await asyncio.to_thread(_shut_left_open, _note(directory))
        await asyncio.to_thread(take_out_left_behind, directory)


class NodeServer:
    def __init__(self, process: Process, line: Line) -> None:
        self._process = process
        self._line = line
        self._detached: asyncio.Task[None] | None = None
        self._next: asyncio.Task[Stream | None] | None = spawn(self._dialed(), "connection for a client of node")
        """Made ahead: editors connect twice, once to ask where."""

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        waiting, self._next = self._next, None
        found = await waiting if waiting else None
        return found or await self._line.client(terms)

    async def disconnected(self) -> None:
        if await self._line.tell("disconnect") and not self._detached:
            self._next = spawn(self._dialed(), "connection for a client of node")

    async def ended(self) -> None:
        await self._line.ended.wait()

    async def detach(self) -> None:
        if self._detached is None:
            self._detached = spawn(self._detach(), "detach node")
        await asyncio.wait({self._detached})

    async def _dialed(self) -> Stream | None:
        try:
            return await self._line.client(ORDINARY)
        except OSError:
            return None

    async def _detach(self) -> None:
        try:
            if not await self._line.tell("detach", DETACH) and self._process.alive:
                _log.warning("process did not say that the debugger is out", pid=self._process.pid)
            if self._next and (unused := await self._next):
                await unused.close()
        finally:
            await self._line.close()


async def _arrival(process: Process, line: Line, port: nodeport.Port) -> None:
    """Waits for the worker to dial. Raises SquashError."""
    greeting, ended = spawn(line.greeting(), "greeting of a worker"), spawn(line.ended.wait(), "end of a process")
    try:
        await asyncio.wait({greeting, ended}, timeout=ARRIVE, return_when=asyncio.FIRST_COMPLETED)
        said: dict[str, Any] = greeting.result() if greeting.done() else {}
    except ConnectionError as error:
        raise SquashError(Reason.ATTACH_FAILED, f"process {process.pid}: {error}") from error
    finally:
        greeting.cancel()
        ended.cancel()
    if problem := said.get("problem"):
        raise SquashError(Reason.DEBUGGER_UNSUITED, f"process {process.pid}: {problem}")
    if said.get("node"):
        return
    if not process.alive:
        raise SquashError(Reason.PROCESS_GONE, f"process {process.pid} ended while a worker was brought in")
    if greeting.done():
        raise SquashError(Reason.ATTACH_FAILED, f"the worker in process {process.pid} ended at once")
    still = f"; until it does, its inspector stays open at {port.place}" if port.ours else ""
    message = f"the main thread of process {process.pid} has not come to run JavaScript for {ARRIVE:g} s{still}"
    raise SquashError(Reason.ATTACH_TIMEOUT, message)


def _asked(process: Process, job: Mapping[str, str]) -> nodeport.Port | SquashError:
    """A refusal is given back: nobody may be there any more to whom it could be raised."""
    try:
        return nodeport.evaluate(process, job)
    except SquashError as refusal:
        return refusal
    except OSError as error:
        return SquashError(Reason.ATTACH_FAILED, f"the network of process {process.pid}: {error}")


async def _closed(asked: asyncio.Task[nodeport.Port | SquashError], note: Path) -> bool:
    """Keeps the note until no port is open any more. False when that could not be seen to: the note stays."""
    found = await asyncio.shield(asked)
    if isinstance(found, nodeport.MaybeOpenError) and not await asyncio.to_thread(found.put_back):
        return False
    await asyncio.to_thread(note.unlink, missing_ok=True)
    return True


def _note(directory: Path) -> Path:
    """Of a process that was told to listen. Beside the directory, which may be the process's user's by then."""
    return directory.with_suffix(".woken")


def _shut_left_open(note: Path) -> None:
    try:
        woken = json.loads(note.read_text())
        pid, start_time = int(woken["pid"]), int(woken["start_time"])
    except (OSError, ValueError, LookupError, TypeError):
        return
    process = Process.read(pid)
    if process and process.start_time == start_time and nodeport.shut(process):
        _log.info("closed the inspector that an earlier life had opened", pid=pid)


def _is_node(process: Process) -> bool:
    path = procfs.PROC / str(process.pid) / "exe"
    if _NAMES.fullmatch(PurePath(process.exe.removesuffix(" (deleted)")).name):
        return True
    status = procfs.status(process.pid)
    if status is None or not nodeport.catches_sigusr1(status):
        return False
    try:
        facts = path.stat()
        return _exports(path, facts.st_dev, facts.st_ino, facts.st_mtime_ns)
    except OSError:
        return False


@functools.lru_cache(maxsize=256)
def _exports(path: Path, *_identity: int) -> bool:
    try:
        return bool(dynamic_symbols(path, _EXPORTED).addresses)
    except (OSError, NotElfError):
        return False


def _title(process: Process) -> str:
    """What it calls itself, as npm does, or else its script."""
    words = process.cmdline
    if len(words) == 1 and " " in words[0].strip():
        return words[0]
    return next((PurePath(word).name for word in words[1:] if not word.startswith("-")), "")

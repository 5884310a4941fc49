"""A JVM by pid: the JDWP agent that it was started with, found, or woken when it was to wait for a command.

JDWP cannot be loaded into a JVM that runs. So this debugger takes what is there, and says which flag to add when there
is nothing. A JVM lets one debugger in at a time, and its port is closed meanwhile. So the agent connects at once, and
nobody else gets in. What a client did ends with the connection: the JVM forgets the breakpoints and lets every thread
run, whoever died. Then it listens again, and the agent connects anew for the next client.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from agent import jdwp, jvm, netdiag, netns
from agent.debuggers import Target, attempt
from agent.jdwp import Options, Place
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding, ok, refused, warning
from agent.preflight.needs import Needs
from agent.process import Process
from agent.protocols.jdwp_packets import HANDSHAKE
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash import procfs
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason
from squash.tasks import spawn
from squash.tunnel import CHUNK

CONNECT = 5.0
"""Seconds for the JVM to take a connection and say the handshake back: a thread of its own does so."""
LISTEN = 3.0
"""Seconds for the JVM to listen again when we have left; it takes some milliseconds."""
BUSY = 0.5
"""Seconds after which another debugger, that may be just leaving, is taken for one that stays."""
LOOKS = (0.002, 0.05)
"""Seconds between two looks whether it does, for nothing tells: at first, and at most; each time twice as long."""
_CHECK = "jdwp"
_log = Log("jdwp")


class Java:
    name = "jdwp"
    protocol = "jdwp"
    needs = Needs(network=True)

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], Connection] = {}
        """To JVMs that would else listen, although nobody had them do so but us."""

    def examine(self, facts: Facts) -> Iterator[Finding]:
        """How its JDWP was started, and whether it can be woken if it has to be."""
        process = facts.process
        try:
            options = jdwp.options(process, ask=False)
            if options.waits and not facts.target.may_signal:
                yield refused(_CHECK, Reason.CAPABILITY_MISSING, "waking its JDWP takes a signal, and so CAP_KILL")
            elif options.waits:
                jvm.check(process)
        except SquashError as error:
            yield refused(_CHECK, error.reason, error.message)
            return
        if jdwp.open_to_all(process, options):
            message = "JDWP listens on every interface: whoever reaches its port owns the JVM"
            yield warning(_CHECK, message, "name 127.0.0.1 in its address")
        else:
            yield ok(_CHECK, f"started with {options}")

    def claim(self, process: Process) -> float:
        if Path(process.exe).name == "java":
            return 0.9
        return 0.8 if "/libjvm.so" in process.maps else -1.0

    async def attach(self, target: Target) -> "JdwpServer":
        process = target.process
        if connection := self._kept.pop((process.pid, process.start_time), None):
            return JdwpServer(connection, self._keep)
        began, strategy = time.monotonic(), "JDWP that listens"
        failure: SquashError | None = None
        try:
            options = await asyncio.to_thread(jdwp.options, process)
            strategy = "JDWP woken by onjcmd=y" if options.waits else strategy
            connection = await _connected(process, options)
            return JdwpServer(connection, self._keep)
        except SquashError as error:
            failure = error
            raise
        finally:
            target.attempts.append(attempt(strategy, began, failure))

    async def recover(self, directory: Path) -> None:
        """Nothing to undo: the JVM freed itself when its debugger was gone."""

    def _keep(self, connection: "Connection") -> None:
        key = connection.process.pid, connection.process.start_time
        self._kept[key] = connection
        connection.forgotten = lambda: self._kept.pop(key, None)


class Connection:
    """To one JVM, past the handshake: the one debugger's connection that it takes."""

    def __init__(self, process: Process, options: Options) -> None:
        """Raises SquashError when the process is gone."""
        self.process = process
        self.options = options
        self.ended = asyncio.Event()
        """The process is gone."""
        self.forgotten: Callable[[], object] = lambda: None
        """Called when the process is gone."""
        self.stream: Stream | None = None
        self._others: frozenset[Place] = frozenset()
        """Sockets on which the JVM listens for others than debuggers, as far as they are known."""
        self._looking: asyncio.Task[None] | None = None
        try:
            self._watch = procfs.handle(process.pid)
        except ProcessLookupError:
            raise SquashError(Reason.PROCESS_GONE, f"process {process.pid} is gone") from None
        asyncio.get_running_loop().add_reader(self._watch, self.end)

    async def open(self, patience: float = BUSY) -> Stream:
        """Waits `patience` seconds for the JVM to listen. Raises SquashError."""
        place = await asyncio.to_thread(_place, self.process, self.options, self._others, patience)
        self.stream = stream = await self._dial(place)
        if not self.options.port:
            self._looking = spawn(self._look_around(), f"sockets of {self.process.pid}")
        return stream

    async def _dial(self, place: Place) -> Stream:
        pid, stream = self.process.pid, None
        try:
            made = await asyncio.to_thread(netns.connect, pid, *place, CONNECT)
            made.setblocking(False)
            stream = Stream(*await asyncio.open_connection(sock=made, limit=CHUNK))
            stream.writer.write(HANDSHAKE)
            async with asyncio.timeout(CONNECT):
                said = await stream.reader.readexactly(len(HANDSHAKE))
            if said != HANDSHAKE:
                raise ConnectionError(f"it answered {said!r} to the handshake")
        except (OSError, EOFError, TimeoutError) as error:
            if stream:
                stream.writer.transport.abort()
            raise _unreachable(pid, place, error) from error
        return stream

    async def renew(self) -> None:
        """Ends what the last client did, and connects for the next one. Raises SquashError when that cannot be."""
        await self.looked()
        self.drop()
        if not self.ended.is_set():
            await self.open(LISTEN)

    async def looked(self) -> None:
        """While it is taken the JVM listens for others than debuggers alone: by those its next port will stand out.

        Nobody may let go of the JVM before they are known.
        """
        if self._looking:
            await asyncio.wait({self._looking})

    async def _look_around(self) -> None:
        self._others = frozenset(await asyncio.to_thread(netdiag.listening, self.process.pid))

    def drop(self) -> None:
        """The JVM forgets this debugger, as soon as it has noticed."""
        if self.stream:
            # What was not sent yet is nobody's wish any more.
            self.stream.writer.transport.abort()
            self.stream = None

    async def close(self) -> None:
        """Gives the JVM free, and returns when it has let every thread run. Never raises."""
        await self.looked()
        self.drop()
        if not self.ended.is_set():
            await asyncio.to_thread(_awaited, self.process, self.options, self._others, LISTEN)
        self.end()

    def end(self) -> None:
        """Idempotent."""
        self.ended.set()
        self.drop()
        self.forgotten()
        if self._watch >= 0:
            asyncio.get_running_loop().remove_reader(self._watch)
            os.close(self._watch)
            self._watch = -1


async def _connected(process: Process, options: Options) -> Connection:
    """Raises SquashError."""
    connection = Connection(process, options)
    try:
        await connection.open()
    except BaseException:
        connection.end()
        raise
    return connection


class JdwpServer:
    def __init__(self, connection: Connection, keep: Callable[[Connection], None]) -> None:
        self._connection = connection
        self._keep = keep
        self._used = False
        self._detached = False

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        """The stream is past the handshake. Raises OSError."""
        connection = self._connection
        if connection.ended.is_set():
            raise ConnectionError(f"process {connection.process.pid} is gone")
        if connection.stream and connection.stream.reader.at_eof():
            connection.drop()
        try:
            stream = connection.stream or await connection.open()
        except SquashError as error:
            raise ConnectionError(error.message) from error
        await connection.looked()
        self._used = True
        return stream

    async def disconnected(self) -> None:
        if not self._used:
            return
        self._used = False
        try:
            await self._connection.renew()
        except SquashError as error:
            _log.warning("the JVM cannot be kept", pid=self._connection.process.pid, error=error.message)

    async def ended(self) -> None:
        await self._connection.ended.wait()

    async def detach(self) -> None:
        if self._detached:
            return
        self._detached = True
        await self.disconnected()
        connection = self._connection
        if connection.options.waits and connection.stream and not connection.ended.is_set():
            self._keep(connection)
        else:
            await connection.close()


def _place(process: Process, options: Options, others: frozenset[Place], patience: float) -> Place:
    """Where the JVM listens for a debugger, and it is woken if need be. Blocks. Raises SquashError."""
    if options.waits and not (options.port and jdwp.listening(process, options)):
        said = jvm.ask(process, "jcmd", "VM.start_java_debugging")
        if "Transport" not in said:
            message = f"the JVM {process.pid} does not start its JDWP: {said.strip()}"
            raise SquashError(Reason.ATTACH_FAILED, message)
    found = _awaited(process, options, others, patience)
    place = jdwp.told(process, found) if len(found) > 1 else next(iter(found), None)
    if place is None:
        who = ", ".join(_debuggers(process, options))
        where = f" from {who}" if who else ""
        message = f"another debugger{where} is connected to the JVM {process.pid}, which takes one at a time"
        raise SquashError(Reason.TRACED_BY_OTHER, message)
    return place


def _awaited(process: Process, options: Options, others: frozenset[Place], patience: float) -> list[Place]:
    """Where the JVM may listen for a debugger, as soon as it does; empty after `patience` seconds. Blocks."""
    deadline, pause = time.monotonic() + patience, LOOKS[0]
    while not (found := jdwp.listening(process, options, others)) and time.monotonic() < deadline and process.alive:
        time.sleep(pause)
        pause = min(2 * pause, LOOKS[1])
    return found


def _debuggers(process: Process, options: Options) -> list[str]:
    """Addresses of those who are connected to the port of its JDWP, where that is known."""
    return [f"{host}:{port}" for host, port in procfs.connected(process.pid, options.port)] if options.port else []


def _unreachable(pid: int, place: Place, error: Exception) -> SquashError:
    where, why = f"{place[0]}:{place[1]}", str(error) or type(error).__name__
    if isinstance(error, PermissionError):
        return SquashError(Reason.CAPABILITY_MISSING, f"{why}: connecting inside another network takes CAP_SYS_ADMIN")
    if isinstance(error, TimeoutError):
        message = f"the JVM {pid} does not answer at {where} within {CONNECT:g} s: it is stopped, or very busy"
        return SquashError(Reason.ATTACH_TIMEOUT, message)
    message = f"the JVM {pid} lets no debugger in at {where} ({why}): another one was faster, or `allow` forbids it"
    return SquashError(Reason.ATTACH_FAILED, message)

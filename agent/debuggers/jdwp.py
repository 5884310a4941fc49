"""A JVM by pid: the JDWP agent that it was started with, found, or woken when it was to wait for a command.

JDWP cannot be loaded into a JVM that runs. So this debugger takes what is there, and says which flag to add when there
is nothing. The JVM itself lets every thread run and forgets the breakpoints when its client is gone, whoever died.
"""

import asyncio
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from agent import jvm, netns
from agent.debuggers import Target
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding
from agent.preflight.needs import Needs
from agent.process import Process
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash import procfs
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason
from squash.tunnel import CHUNK

FLAG = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,onjcmd=y,address=127.0.0.1:0"
"""What a JVM needs at its start: nothing listens until it is woken, and then on its loopback alone."""
_VARIABLES = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
_AGENT = re.compile(r"(?:-agentlib:jdwp=|-Xrunjdwp:)(\S+)")
_CONNECT = 5.0
_EVERYWHERE = ("*", "0.0.0.0", "::")
_log = Log("jdwp")


@dataclass(frozen=True)
class Jdwp:
    """The options of a JVM's JDWP agent (JDWP agent and transport, connection and invocation details)."""

    host: str
    port: int
    server: bool
    waits: bool
    """It starts only when jcmd says so (`onjcmd=y`)."""

    @classmethod
    def of(cls, process: Process) -> Self | None:
        """None when the JVM was started without."""
        environment = procfs.environ(process.pid) or {}
        words = " ".join([*(environment.get(name, "") for name in _VARIABLES), *process.cmdline[1:]])
        found = _AGENT.findall(words)
        if not found:
            return None
        # Of several the last one counts.
        options = dict(option.partition("=")[::2] for option in found[-1].split(","))
        host, _, port = options.get("address", "0").rpartition(":")
        number = int(port) if port.isdecimal() else 0
        return cls(host or "127.0.0.1", number, options.get("server") == "y", options.get("onjcmd") == "y")


class Java:
    name = "jdwp"
    protocol = "jdwp"
    needs = Needs(network=True)

    def examine(self, facts: Facts) -> Iterable[Finding]:
        """Nothing beyond what `needs` says."""
        return ()

    def claim(self, process: Process) -> float:
        if Path(process.exe).name == "java":
            return 0.9
        try:
            return 0.8 if "/libjvm.so" in Path(f"/proc/{process.pid}/maps").read_text() else -1.0
        except OSError:
            return -1.0

    async def attach(self, target: Target) -> "JdwpServer":
        process = target.process
        place = await asyncio.to_thread(_place, process)
        return JdwpServer(process, place)

    async def recover(self, directory: Path) -> None:
        """Nothing to undo: the JVM freed itself when its client was gone."""


class JdwpServer:
    def __init__(self, process: Process, place: tuple[str, int]) -> None:
        self._process = process
        self._place = place
        self._ended = asyncio.Event()
        self._watch = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._watch, self._over)

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        made = await asyncio.to_thread(netns.connect, self._process.pid, *self._place, _CONNECT)
        made.setblocking(False)
        return Stream(*await asyncio.open_connection(sock=made, limit=CHUNK))

    async def disconnected(self) -> None:
        """The JVM sees for itself that its client is gone."""

    async def ended(self) -> None:
        await self._ended.wait()

    async def detach(self) -> None:
        self._over()

    def _over(self) -> None:
        self._ended.set()
        if self._watch >= 0:
            asyncio.get_running_loop().remove_reader(self._watch)
            os.close(self._watch)
            self._watch = -1


def _place(process: Process) -> tuple[str, int]:
    """Where the JVM listens for a debugger. Raises SquashError."""
    options = Jdwp.of(process)
    if options is None:
        message = f"the JVM {process.pid} was started without JDWP, which cannot be added later; start it with {FLAG}"
        raise SquashError(Reason.DEBUGGER_UNSUITED, f"{message} (or in JAVA_TOOL_OPTIONS)")
    if not options.server:
        message = f"the JVM {process.pid} dials a debugger instead of listening (server=n); start it with {FLAG}"
        raise SquashError(Reason.DEBUGGER_UNSUITED, message)
    if options.host in _EVERYWHERE:
        _log.warning("JDWP listens on every interface: anybody who reaches the port owns the JVM", pid=process.pid)
    found = _fits(options, procfs.listening(process.pid))
    if options.waits and not found:
        jvm.ask(process, "jcmd", "VM.start_java_debugging")
        found = _fits(options, procfs.listening(process.pid))
    if len(found) == 1:
        host, port = found[0]
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port
    if found:
        ports = ", ".join(str(port) for _, port in found)
        message = f"the JVM {process.pid} chose JDWP's port itself and listens on {ports}: name one in its options"
        raise SquashError(Reason.DEBUGGER_UNSUITED, message)
    message = f"the JVM {process.pid} has JDWP but does not listen: another debugger is connected to it"
    raise SquashError(Reason.PROCESS_BUSY, message)


def _fits(options: Jdwp, listening: set[tuple[str, int]]) -> list[tuple[str, int]]:
    """The sockets that may be JDWP's.

    A port that it chose itself is told by the address: Java's own sockets speak IPv4 under addresses of IPv6.
    """
    if options.port:
        return sorted(place for place in listening if place[1] == options.port)[:1]
    return sorted(place for place in listening if place[0] == options.host)

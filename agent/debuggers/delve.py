"""delve for Go programs, with a guard beside it (agent.delve_guard), where only the agent reaches it.

It is lazy: the process runs untraced until a client comes, because delve stops what it attaches to. So everything that
would keep it from working is found out beforehand, without touching the process.
"""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from agent import delve_guard, netns, traps
from agent.aside import aside
from agent.debuggers import Target, attempt
from agent.debuggers.gdb import check
from agent.delve_start import NETWORK, PORT, SOCKET, UNIX
from agent.denied import held
from agent.gobinary import GoProgram
from agent.guarded import GUARD, NOTES, Guarded, await_guard
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding, ok, refusal, refused, warning
from agent.preflight.needs import Capability, Needs
from agent.process import Process
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash import procfs
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason

FAREWELL = 4.0
"""Seconds for a delve whose guard was killed to leave, before it is killed too."""
LOOK = 5.0
"""Seconds to look for breakpoints that are there before delve comes, which takes milliseconds."""
ASK = 20.0
"""Seconds for `dlv version` on a busy machine."""
UNIX_SINCE = (1, 22, 1)
"""The first delve that listens on a unix socket."""
DWARF_5_SINCE = (1, 25, 0)
"""The first delve that reads the debug information of Go 1.25 and newer, if it was itself built with such a Go."""
DWARF_5_GO = (1, 25)


@dataclass(frozen=True)
class Installed:
    """A delve on this machine."""

    path: str
    version: tuple[int, ...]
    built_with: tuple[int, ...]
    """The version of Go; empty when it does not say."""

    @property
    def name(self) -> str:
        return "delve " + ".".join(map(str, self.version))

    @property
    def reads_dwarf_5(self) -> bool:
        # Of a delve that does not say what it was built with, the best is believed.
        return self.version >= DWARF_5_SINCE and (not self.built_with or self.built_with >= DWARF_5_GO)


class Delve:
    name = "delve"
    protocol = "delve"

    def __init__(self, delve: str = "dlv", ways: Sequence[str] = (UNIX, NETWORK)) -> None:
        """`delve`: the program, looked up on PATH when it is a bare name; `ways`: how it may listen, best first."""
        self._delve = delve
        self._ways = ways
        self._known: dict[tuple[str, int], Installed] = {}
        # Of these machines the guard knows what a breakpoint looks like.
        self.needs = Needs(traces=True, programs=(delve,), machines=frozenset({"x86_64", "aarch64"}))

    def claim(self, process: Process) -> float:
        """Sure of every Go program, also where it can't be debugged: then the reason is worth more than a poor tool."""
        try:
            return 0.9 if GoProgram.read(procfs.PROC / str(process.pid) / "exe") else -1.0
        except OSError:
            return -1.0

    def examine(self, facts: Facts) -> Iterator[Finding]:
        """Its version of Go and its debug information, against those that this delve knows; how delve could listen."""
        try:
            installed = self._installed()
        except SquashError as error:
            if error.reason is not Reason.DEBUGGER_MISSING:  # that was looked at before
                yield refused("delve", error.reason, error.message)
            return
        program = GoProgram.read(procfs.PROC / str(facts.process.pid) / "exe")
        yield from judge(facts.process, program, installed)
        obstacles = [cannot_listen(way, installed) for way in self._ways]
        if all(obstacles) and obstacles[-1]:
            yield refused("listening", obstacles[-1].reason, obstacles[-1].message)

    async def attach(self, target: Target) -> "DelveServer":
        """Tries whether delve could, without stopping the process: that waits for the first client."""
        started, process = time.monotonic(), target.process
        failure: SquashError | None = None
        try:
            installed = await asyncio.to_thread(self._installed)
            check(process)
            program = GoProgram.read(procfs.PROC / str(process.pid) / "exe")
            failure = refusal(judge(process, program, installed))
        except SquashError as error:
            failure = error
        except OSError as error:
            failure = SquashError(Reason.PROCESS_GONE, f"process {process.pid}: {error}")
        if failure:
            target.attempts.append(attempt("delve", started, failure))
            raise failure
        for way in self._ways:
            failure = cannot_listen(way, installed)
            target.attempts.append(attempt(_STRATEGIES[way], started, failure))
            if failure is None:
                server = DelveServer(target, installed.path, way)
                server.prepare()
                return server
        raise failure or SquashError(Reason.DEBUGGER_UNSUITED, "there is no way for delve to listen")

    async def recover(self, directory: Path) -> None:
        await asyncio.to_thread(_recover, directory / NOTES, GUARD)

    def _installed(self) -> Installed:
        """Blocks, the first time. Raises SquashError when there is none."""
        path = shutil.which(self._delve)
        if path is None:
            message = f"{self._delve} is not on the agent's PATH: go install github.com/go-delve/delve/cmd/dlv@latest"
            raise SquashError(Reason.DEBUGGER_MISSING, message)
        key = path, Path(path).stat().st_mtime_ns
        if key not in self._known:
            self._known[key] = _ask(path)
        return self._known[key]


class DelveServer(Guarded):
    """One process's debug server. Client and delve talk directly; the guard stands beside."""

    module = "agent.delve_start"

    def __init__(self, target: Target, path: str, way: str) -> None:
        super().__init__(target.process, target.directory, Log("delve", pid=target.process.pid), target.guards)
        self._path = path
        self._way = way
        self._door = target.directory / SOCKET
        self._others: list[int] = []
        """Where there are traps that are not delve's."""

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        await self.disconnected()
        self._others = await self._traps()
        return await super().connect(terms)

    async def _traps(self) -> list[int]:
        """Where there are some already. Raises ConnectionError when that cannot be told."""
        pid = self._process.pid
        try:
            async with asyncio.timeout(LOOK):
                return list(await aside(lambda: traps.find(pid), f"breakpoints of {pid}"))
        except TimeoutError:
            raise ConnectionError(f"the files that process {pid} runs cannot be read: they are out of reach") from None
        except SquashError as error:
            raise ConnectionError(error.message) from error

    def _arguments(self) -> Sequence[str]:
        return self._path, self._way, json.dumps(self._others)

    def _patience(self) -> float:
        return delve_guard.patience(self._process.pid) + delve_guard.LIMIT + GUARD

    def _free(self, patience: float) -> bool:
        return _recover(self._notes, patience)

    async def _dial(self, line: Stream, words: str) -> Stream:
        """delve takes one connection, and leaves when that ends: so the guard has it too, and ends it in its time."""
        if self._way == UNIX:
            made = socket.socket(socket.AF_UNIX)
        else:
            made = await asyncio.to_thread(netns.connect, int(words.split()[1]), "127.0.0.1", PORT, 5.0)
        try:
            if self._way == UNIX:
                made.connect(str(self._door))
            made.setblocking(False)
            with line.writer.get_extra_info("socket").dup() as way:
                socket.send_fds(way, [b"c"], [made.fileno()])
            return Stream(*await asyncio.open_connection(sock=made))
        except BaseException:
            made.close()
            raise


def judge(process: Process, program: GoProgram | None, installed: Installed) -> Iterator[Finding]:
    """Whether delve could debug what runs there."""
    if program is None:
        yield refused("language", Reason.DEBUGGER_UNSUITED, f"process {process.pid} ({process.exe}) is no Go program")
        return
    about = f"process {process.pid} ({PurePath(process.exe).name}, {program.version or 'older than Go 1.18'})"
    if not program.dwarf:
        flags = program.settings.get("-ldflags", "")
        how = f"it was built with -ldflags {flags}" if flags else "it was stripped"
        advice = "build without -ldflags '-s -w' and without strip; where functions are enough, ask for gdb"
        message = f"delve could not open debug info of {about}: {how}"
        yield refused("symbols", Reason.DEBUGGER_UNSUITED, message, advice)
    elif program.dwarf >= 5 and not installed.reads_dwarf_5:
        built = f", built with Go {'.'.join(map(str, installed.built_with))}," if installed.built_with else ""
        message = (
            f"{installed.name}{built} does not read the debug information (DWARF 5) of {about}: it sees no variables"
        )
        advice = (
            "give the agent delve 1.25 or newer, built with Go 1.25 or newer "
            "(go install github.com/go-delve/delve/cmd/dlv@latest), or build the program with GOEXPERIMENT=nodwarf5"
        )
        yield refused("version", Reason.DEBUGGER_UNSUITED, message, advice)
    else:
        yield ok("version", f"{program.version or 'an old Go'}, DWARF {program.dwarf}, {installed.name}")
    if program.optimised and program.dwarf:
        message = f"{about} was optimised: some variables cannot be read"
        yield warning("symbols", message, "build it with -gcflags='all=-N -l' to see everything")


def cannot_listen(way: str, installed: Installed) -> SquashError | None:
    """Why it could not listen in this way; None when it can."""
    if way == UNIX and installed.version < UNIX_SINCE:
        since = ".".join(map(str, UNIX_SINCE))
        message = f"{installed.name} cannot listen on a unix socket: that takes {since}"
        return SquashError(Reason.DEBUGGER_UNSUITED, message)
    if way == NETWORK and Capability.SYS_ADMIN not in held():
        message = f"a network of its own for {installed.name} takes CAP_SYS_ADMIN; a newer delve does without"
        return SquashError(Reason.CAPABILITY_MISSING, message)
    return None


_STRATEGIES = {UNIX: "delve on a unix socket", NETWORK: "delve in a network of its own"}


def _ask(path: str) -> Installed:
    """Raises SquashError when it does not say its version."""
    try:
        said = subprocess.run([path, "version"], capture_output=True, timeout=ASK, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SquashError(Reason.DEBUGGER_UNSUITED, f"{path} cannot be used: {error}") from error
    version = re.search(rb"Version: (\d+)\.(\d+)\.(\d+)", said)
    if not version:
        words = said.decode(errors="replace")
        raise SquashError(Reason.DEBUGGER_UNSUITED, f"{path} does not say its version: {words!r:.100}")
    return Installed(path, tuple(map(int, version.groups())), _built_with(Path(path)))


def _built_with(path: Path) -> tuple[int, ...]:
    try:
        program = GoProgram.read(path)
    except OSError:
        return ()
    found = re.match(r"go(\d+)\.(\d+)", program.version) if program else None
    return tuple(map(int, found.groups())) if found else ()


def _recover(path: Path, patience: float) -> bool:
    """Frees the process of these notes; a guard that is at it is given `patience` seconds. True when it is free."""
    return not await_guard(path, patience) or delve_guard.succeed(path, FAREWELL)

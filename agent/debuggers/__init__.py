"""Debuggers are plug-ins: one file each, entry points `squash.debuggers`, this Protocol.

A debugger attaches to a running process and gives back a `DebugServer`: something a client's bytes can be
connected to, again and again, until it is detached. It must never leave the process stopped, whoever dies.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol

from agent.nursery import Nursery
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding
from agent.preflight.needs import Needs
from agent.process import Process
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash.errors import SquashError
from squash.model import Attempt
from squash.reasons import Reason


def attempt(strategy: str, began: float, failure: SquashError | None) -> Attempt:
    """One rung of the ladder that was tried, for `Target.attempts`; `began` is of time.monotonic()."""
    return Attempt(
        strategy=strategy,
        seconds=time.monotonic() - began,
        reason=failure.reason if failure else None,
        message=failure.message if failure else None,
    )


@dataclass
class Target:
    """What a debugger is given: the process, and a directory of its own for sockets and notes on what to undo.

    The directory belongs to this attachment alone, and is removed after `detach` and what is `unfinished` then.
    Debuggers append to `attempts`, and to `unfinished` what goes on although nobody waits for it.
    """

    process: Process
    directory: Path
    attempts: list[Attempt] = field(default_factory=list)
    unfinished: list["asyncio.Task[bool]"] = field(default_factory=list)
    """Each ends with whether nothing is left to be undone: else the directory and its notes are for `recover`."""
    guards: Nursery | None = None
    """Where those debuggers that are kept by a guard may have one waiting."""


class DebugServer(Protocol):
    """A debugger that sits in a process."""

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        """A byte stream to the debugger, for one client at a time, which may do what the terms say."""

    async def disconnected(self) -> None:
        """To be called when a client's stream is over: no breakpoint stays, the process runs."""

    async def ended(self) -> None:
        """Returns when the debugger or the process has ended by itself."""

    async def detach(self) -> None:
        """Takes the debugger out: the process runs on, untraced, at full speed. Idempotent; never raises."""


class Debugger(Protocol):
    name: str
    protocol: str
    """A key of `agent.protocols.PROTOCOLS`, such as `dap` (Debug Adapter Protocol) or `gdb` (its remote protocol)."""
    needs: Needs
    """What the preflight looks for before `attach` is called."""

    def examine(self, facts: Facts) -> Iterable[Finding]:
        """What more there is to know of a process for this debugger, such as its language's version. Only looks."""

    def claim(self, process: Process) -> float:
        """How well the process suits: the highest claim wins, below 0 means not mine."""

    async def attach(self, target: Target) -> DebugServer:
        """Raises SquashError with the cause; the process then runs as if nothing had happened."""

    async def recover(self, directory: Path) -> None:
        """Undoes what an agent that died left behind, from the notes in a target's directory. Never raises."""


def installed() -> dict[str, Debugger]:
    """Every debugger plug-in of this environment, by name."""
    found = (entry.load()() for entry in entry_points(group="squash.debuggers"))
    return {debugger.name: debugger for debugger in found}


def choose(debuggers: Iterable[Debugger], process: Process) -> Debugger:
    """The debugger with the highest claim. Raises SquashError when none claims the process."""
    claims = sorted(((d.claim(process), d.name, d) for d in debuggers), key=lambda c: (-c[0], c[1]))
    if not claims or claims[0][0] < 0:
        names = ", ".join(name for _, name, _ in claims)
        raise SquashError(
            Reason.NO_DEBUGGER_CLAIMS,
            f"none of {names} suits process {process.pid} ({process.exe or process.comm})",
        )
    return claims[0][2]

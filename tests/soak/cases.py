"""Which part is killed at which moment of a debugging, by which debugger and over which way."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product

from tests.drivers.languages import LANGUAGES, Language

LATEST = 0.15
"""Longest random pause in seconds between reaching a moment and the kill: as long as an attach takes."""


class Moment(StrEnum):
    UNCLAIMED = "unclaimed"
    ATTACHING = "attaching"
    LISTENING = "listening"
    CONNECTED = "connected"
    READY = "ready"
    STOPPED = "stopped"
    DETACHING = "detaching"


class Victim(StrEnum):
    CLIENT = "client"
    AGENT = "agent"
    COORDINATOR = "coordinator"
    SIDECAR = "sidecar"
    TRACER = "tracer"
    """gdbserver, or delve; the other debuggers are in the process: nobody can kill them alone."""
    GUARD = "guard"
    """Of one of these."""
    INJECTOR = "injector"


class Way(StrEnum):
    LOCAL = "local"
    TUNNEL = "tunnel"


_WITH_CLIENT = (Moment.CONNECTED, Moment.READY, Moment.STOPPED, Moment.DETACHING)


@dataclass(frozen=True)
class Case:
    language: Language
    moment: Moment
    victim: Victim
    way: Way
    pause: float = 0.0
    """Seconds after the moment was reached."""

    @property
    def debugger(self) -> str:
        return self.language.debugger

    @property
    def possible(self) -> bool:
        with_client = self.moment in _WITH_CLIENT
        if self.victim in (Victim.TRACER, Victim.GUARD):
            return with_client and self.debugger in ("gdb", "delve")
        if self.victim is Victim.INJECTOR:
            return self.moment is Moment.ATTACHING and self.debugger == "debugpy" and self.way is Way.LOCAL
        if self.victim is Victim.CLIENT:
            return with_client
        return with_client or self.way is Way.LOCAL

    @property
    def survives(self) -> bool:
        """Whether the developer's session goes on, so that a stopped process stays so: it is the developer's wish."""
        if self.victim is Victim.COORDINATOR and self.way is Way.LOCAL:
            return self.moment in (Moment.CONNECTED, Moment.READY, Moment.STOPPED)
        return self.victim is Victim.SIDECAR and self.moment in (Moment.READY, Moment.STOPPED)

    def __str__(self) -> str:
        return f"{self.debugger}, {self.moment}, kill {self.victim} ({self.way}) after {self.pause * 1000:.0f} ms"


def cases(seed: int, debuggers: frozenset[str] = frozenset()) -> Iterator[Case]:
    """Endlessly, the debuggers in turn: of each every possible case in a random order, then all of them in another.

    Of all debuggers if none is named.
    """
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    wanted = [each for each in LANGUAGES.values() if not debuggers or each.debugger in debuggers]
    yield from (case for turn in zip(*(_of(each, chance) for each in wanted), strict=True) for case in turn)


def _of(language: Language, chance: random.Random) -> Iterator[Case]:
    every = [case for given in product(Moment, Victim, Way) if (case := Case(language, *given)).possible]
    while True:
        chance.shuffle(every)
        yield from (replace(case, pause=chance.uniform(0, LATEST)) for case in every)

"""One cell of the matrix: a service in a kind of container, debugged from the attach to the detach, or refused."""

import shlex
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import HTTPException
from typing import Any

from agent.containers import members
from demo.world import Child, World
from squash import procfs
from squash.calls import create_attachment, delete_attachment, get_attachment
from squash.client import Client
from squash.model import AttachmentSpec, DebugAttachment, State
from squash.reasons import Reason
from tests import drivers
from tests.agent import java
from tests.drivers import Spot
from tests.drivers.languages import CHANGED, JAVA, JDWP, LOCAL, NUMBER, USUAL, ask, tools
from tests.eventually import eventually
from tests.runtimes.facts import Facts, settled
from tests.runtimes.kubelet import Limits
from tests.runtimes.reach import reachable
from tests.runtimes.tunnels import Tunnel
from tests.runtimes.wares import PORT, Ware

SMALL = 64 * 1024 * 1024
WARMING = 3
"""Requests before anything is looked at: what a service opens and starts at its first ones is not the debugger's."""


class Kind(StrEnum):
    PLAIN = "plain"
    HARDENED = "hardened"
    BARE = "bare"
    SMALL = "small"
    WRAPPED = "wrapped"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]

    @property
    def limits(self) -> Limits:
        if self is Kind.HARDENED:
            return Limits(uid=1000, hardened=True)
        return Limits(memory=SMALL if self is Kind.SMALL else 0)


_MEANINGS = {
    Kind.PLAIN: "root in a small Debian",
    Kind.HARDENED: "uid 1000, all capabilities dropped, no_new_privs, read-only root",
    Kind.BARE: "no shell, no tools: scratch for C++ and Go, else the interpreter or runtime and its libraries alone",
    Kind.SMALL: "a limit of 64 MiB of memory",
    Kind.WRAPPED: "started by a shell that stays: sh -c 'service & wait'",
}


def image(ware: Ware, kind: Kind) -> str:
    return ware.bare if kind is Kind.BARE else ware.debian


def command(ware: Ware, kind: Kind) -> list[str]:
    """Empty: the image's own."""
    return ["/bin/sh", "-c", f"{shlex.join(ware.command)} & wait"] if kind is Kind.WRAPPED else []


def environment(ware: Ware, kind: Kind) -> dict[str, str]:
    """A JVM has to be started with JDWP; in one kind of container it sleeps until it is woken."""
    if ware.language is not JAVA:
        return {}
    how = "onjcmd=y,address=127.0.0.1:0" if sleeps(ware, kind) else "address=127.0.0.1:5005"
    return {"JAVA_TOOL_OPTIONS": f"{JDWP},{how}"}


def sleeps(ware: Ware, kind: Kind) -> bool:
    """Whether it is a JVM that has to be woken: what it starts then it keeps. Not every release can sleep."""
    return ware.language is JAVA and kind is Kind.WRAPPED and java.sleeps()


@dataclass(frozen=True)
class Running:
    """A service that answers at `where`."""

    ware: Ware
    kind: Kind
    where: str
    pid: int
    attachment: dict[str, Any]

    @property
    def spot(self) -> Spot:
        return self.ware.bare_spot if self.kind is Kind.BARE else self.ware.spot

    @property
    def answers(self) -> bool:
        return _answer(self.where) == NUMBER * USUAL


def running(ware: Ware, kind: Kind, ip: str, container: str, attachment: dict[str, Any]) -> Running:
    """Waits until the service in the container of this id answers."""
    where = f"http://{ip}:{PORT}"
    assert eventually(lambda: _answer(where)) == NUMBER * USUAL, "the service never answered"
    for _ in range(WARMING):
        ask(where)
    found = members.of_container(container)
    pid = next(each.pid for each in found if PORT in {port for _, port in procfs.listening(each.pid)})
    return Running(ware, kind, where, pid, attachment)


def _answer(where: str, timeout: float = 10.0) -> int:
    """0 when nobody answers."""
    try:
        return ask(where, timeout)
    except (OSError, HTTPException):
        return 0


@dataclass
class Seen:
    """What came of it."""

    outcome: str = "works"
    """Or `refused: REASON`."""
    message: str = ""
    attach_ms: float = 0.0
    doors: dict[str, list[str]] = field(default_factory=dict)
    """What stood open, on the host and in the pod, and when."""


class Table:
    """Where cells are played: a coordinator and an agent, and a client of the first."""

    def __init__(self, world: World, *options: str) -> None:
        """`options`: which runtime, in the words that coordinator and agent share."""
        self.world = world
        self.options = options
        self.coordinator = world.coordinator("--platform", options[0], *options[1:])
        self.agent = self._start_agent()
        self.client: Client = world.client()

    def close(self) -> None:
        self.client.close()

    def mend(self) -> None:
        """Starts the agent again if it was killed, with what it left behind."""
        if self.agent.process.poll() is not None:
            self.agent = self._start_agent()

    def _start_agent(self) -> Child:
        return self.world.agent("--containers", self.options[0], *self.options[1:], environment=tools())

    def facts(self, running: Running) -> Facts:
        woken = sleeps(running.ware, running.kind)
        return Facts.of(running.pid, self.world, running.ware.language.name, woken=woken)

    def attach(self, running: Running, **more: Any) -> DebugAttachment:
        """As soon as it is attached, or refused."""
        spec = AttachmentSpec(attachment=running.attachment, **more)
        made = self.client.send(create_attachment(DebugAttachment(spec=spec)))
        return self.client.send(get_attachment(made.name, wait=60))

    def tunnel(self, attachment: DebugAttachment) -> Tunnel:
        return Tunnel(self.world, self.coordinator.where, attachment.name)

    def play(self, running: Running) -> Seen:
        """The whole of it. Raises AssertionError, with what is wrong."""
        before = self.facts(running)
        begun = time.monotonic()
        attachment = self.attach(running)
        seen = Seen(attach_ms=(time.monotonic() - begun) * 1000)
        if attachment.status.state is State.ERROR:
            reason = attachment.status.reason or Reason.INTERNAL
            seen.outcome, seen.message = f"refused: {reason}", attachment.status.message or ""
        else:
            assert attachment.status.debugger == running.ware.language.debugger
            assert attachment.status.pid == running.pid
            during = self._debug(running, attachment)
            self.client.send(delete_attachment(attachment.name))
            seen.doors = {"host": list(during.host), "pod": list(during.pod)}
            assert not (news := set(during.host) - set(before.host)), f"opened on the host: {news}"
            assert not (news := set(during.pod) - set(before.pod)), f"opened in the pod: {news}"
        left = settled(lambda: self.facts(running), before)
        assert not left, f"afterwards {left}"
        assert running.answers
        return seen

    def _debug(self, running: Running, attachment: DebugAttachment) -> Facts:
        """What was open while a request stood at the breakpoint."""
        spot = running.spot
        with (
            ThreadPoolExecutor(1) as asking,
            self.tunnel(attachment) as tunnel,
            drivers.connect(running.ware.language.debugger, tunnel.address) as client,
        ):
            client.begin(spot)
            answer: Future[int] = asking.submit(ask, running.where)
            assert client.stopped() == f"scaled:{spot.line}"
            assert (client.value("number"), client.value(LOCAL)) == (NUMBER, USUAL)
            during = self.facts(running)
            _connect_everywhere(running, during)
            assert not answer.done()
            client.change(LOCAL, CHANGED)
            client.go_on()
            assert answer.result() == NUMBER * CHANGED
            client.leave()
        return during


def _connect_everywhere(running: Running, during: Facts) -> None:
    """That nothing answers but what the tables name."""
    for place, pid in ((during.host, None), (during.pod, running.pid)):
        named = {int(door.rpartition(":")[2], 16) for door in place if door.startswith("tcp")}
        assert not (more := set(reachable(pid)) - named), f"ports that no table names: {more}"


def until(look: Callable[[], bool], limit: float) -> None:
    """Waits for a fact that tells nobody."""
    assert eventually(look, limit=limit), f"it did not come about within {limit:g} s"

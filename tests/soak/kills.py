"""kill -9 of one part at one moment of a debugging, and what must be true afterwards.

One world is used for many runs, so that each also meets what the one before left behind.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import TypeVar

import httpx

from demo.shop import Pod
from demo.story import facts
from demo.telling import line_of
from demo.world import Child, World
from squash import procfs
from squash.calls import Call, create_request, delete_attachment, get_attachment
from squash.errors import ApiError, UnreachableError
from squash.model import DebugAttachment, DebugRequest, HoldUntil, Phase, RequestSpec, State
from squash.tasks import spawn
from tests.e2e.street import COUNTING, FREE, PROGRAMS, Caller, Street
from tests.soak import clients
from tests.soak.clients import Program, address_of

T = TypeVar("T")
NATIVE = Path(__file__).parent / "counting.cc"
PROMISED = 10.0
"""Seconds after a kill -9 in which the process runs and nothing traces it."""
MENDED = 45.0
"""Seconds for what is promised without a number: the end of a hold, of an attachment, of a helper."""
LATEST = 0.15
"""Longest random pause in seconds between reaching a moment and the kill: as long as an attach takes."""
_SIDECAR = ("--attachment-timeout", "120", "--request-timeout", "10")


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
    GDBSERVER = "gdbserver"
    GUARD = "guard"
    INJECTOR = "injector"


class Way(StrEnum):
    LOCAL = "local"
    TUNNEL = "tunnel"


_WITH_CLIENT = (Moment.CONNECTED, Moment.READY, Moment.STOPPED, Moment.DETACHING)


@dataclass(frozen=True)
class Case:
    debugger: str
    moment: Moment
    victim: Victim
    way: Way
    pause: float = 0.0
    """Seconds after the moment was reached."""

    @property
    def possible(self) -> bool:
        with_client = self.moment in _WITH_CLIENT
        if self.victim in (Victim.GDBSERVER, Victim.GUARD):
            return with_client and self.debugger == "gdb"
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


def cases(seed: int) -> Iterator[Case]:
    """Endlessly: every possible one in a random order, then all of them in another."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    every = [Case(*given) for given in product(("debugpy", "gdb"), Moment, Victim, Way)]
    every = [case for case in every if case.possible]
    while True:
        chance.shuffle(every)
        for case in every:
            yield replace(case, pause=chance.uniform(0, LATEST))


def build(directory: Path) -> Path:
    program = directory / "counting"
    subprocess.run(["g++", "-std=c++17", "-g", "-O0", "-pthread", "-o", program, NATIVE], check=True)
    return program


class Scene:
    """A coordinator, an agent, and a pod of each kind."""

    def __init__(self, world: World, native: Path) -> None:
        self.world = world
        self.native = native
        PROGRAMS["native"] = [str(native)]
        self.street = Street(world)
        self.coordinator = self.street.coordinator
        self.agent = world.agent()
        self.pods = {name: self._pod(kind) for name, kind in (("debugpy", "counting"), ("gdb", "native"))}
        self.caller = Caller()
        self._count = 0

    async def close(self) -> None:
        await self.caller.http.aclose()
        self.street.close()

    async def play(self, case: Case) -> None:
        """Raises AssertionError, with what is wrong, when a promise is not kept."""
        self._count += 1
        await Run(self, case, f"/run-{self._count}").play()

    def _pod(self, name: str) -> Pod:
        service = self.world.service(name, f"demo/{name}", PROGRAMS[name])
        sidecar = self.world.sidecar(name, *_SIDECAR)
        envoy = self.world.envoy(name, service.where, sidecar.where, *_SIDECAR)
        return Pod(name, f"demo/{name}", service, sidecar, envoy)

    def mend(self, victim: Victim, pod: Pod) -> None:
        """Starts again what was killed, at the same place."""
        if victim is Victim.COORDINATOR:
            self.coordinator = self.world.coordinator()
        elif victim is Victim.AGENT:
            self.agent = self.world.agent()
        elif victim is Victim.SIDECAR:
            listen = pod.sidecar.where.removeprefix("http://")
            pod.sidecar = self.world.sidecar(pod.name, *_SIDECAR, listen=listen)


def _helper(words: list[bytes]) -> str:
    """What a process with these arguments is to a debugger; empty: nothing."""
    if b"--attach" in words:
        return Victim.GDBSERVER
    if any(b"agent.guard" in word for word in words):
        return Victim.GUARD
    return Victim.INJECTOR if any(b"agent.inject" in word for word in words) else ""


class Run:
    def __init__(self, scene: Scene, case: Case, path: str) -> None:
        self.scene, self.case, self.path = scene, case, path
        self.pod = scene.pods[case.debugger]
        self.name = ""
        self.client: Program | None = None
        self.connect: Program | None = None

    async def play(self) -> None:
        wish = await self._wish()
        if self.case.moment is Moment.UNCLAIMED:
            self.scene.agent.process.send_signal(signal.SIGSTOP)
        held = spawn(self.scene.caller.get(self.pod.url + self.path), "held")
        try:
            self.name = await self.scene.street.matched(wish)
            await self._reach()
            if self.case.victim is Victim.INJECTOR:
                await self._until_injecting()
            # The random moment is what is tested.
            await asyncio.sleep(self.case.pause)
            await self._kill()
            begun = time.monotonic()
            if self.case.victim is not Victim.AGENT:
                self.scene.agent.process.send_signal(signal.SIGCONT)
            await self._promise(begun)
            await asyncio.to_thread(self.scene.mend, self.case.victim, self.pod)
            await self._clean_up(held)
        finally:
            for program in (self.client, self.connect):
                if program:
                    await program.kill()
            held.cancel()
            await asyncio.wait({held})

    async def _wish(self) -> str:
        spec = RequestSpec(image=self.pod.image, debugger=self.case.debugger, hold_until=HoldUntil.READY)
        return (await self._ask(create_request(DebugRequest(spec=spec)))).name

    # -- up to the moment ---------------------------------------------------------------------------

    async def _reach(self) -> None:
        moment = self.case.moment
        if moment is Moment.UNCLAIMED:
            return
        if moment is Moment.ATTACHING:
            await self.scene.street.until(self.name, lambda found: found.status.state is not State.NONE)
            return
        listening = await self._phase(Phase.LISTENING)
        if moment is Moment.LISTENING:
            return
        await self._connect(listening, "stopped" if moment is Moment.DETACHING else moment.value)
        if moment in (Moment.CONNECTED, Moment.READY):
            await self._phase(Phase.CLIENT_CONNECTED if moment is Moment.CONNECTED else Phase.READY)
        if moment is Moment.DETACHING:
            spawn(self._delete(), "delete")

    async def _until_injecting(self) -> None:
        """An injector is there, or has been."""
        for _ in range(400):
            if self._helpers(Victim.INJECTOR):
                return
            await asyncio.sleep(0.005)

    async def _phase(self, phase: Phase) -> DebugAttachment:
        found = await self.scene.street.until(
            self.name,
            lambda seen: seen.status.state is State.ERROR or (seen.status.phase or Phase.LOCATED).rank >= phase.rank,
        )
        assert found.status.state is not State.ERROR, f"{found.status.reason}: {found.status.message}"
        return found

    async def _connect(self, attachment: DebugAttachment, moment: str) -> None:
        world, address = self.scene.world, address_of(attachment)
        if self.case.way is Way.TUNNEL:
            self.connect, address = await clients.local_end(world, self.scene.coordinator.where, self.name)
        if self.case.debugger == "gdb":
            function = "counted" if moment == "stopped" else "never"
            self.client = await clients.gdb(world, address, self.scene.native, function, moment)
        else:
            text = "count = COUNTS[path]" if moment == "stopped" else "self.answer(self.rfile.read("
            self.client = await clients.dap(world, address, COUNTING, line_of(COUNTING, text), moment)

    # -- the kill -----------------------------------------------------------------------------------

    async def _kill(self) -> None:
        match self.case.victim:
            case Victim.CLIENT:
                program = self.connect or self.client
                assert program
                await program.kill()
            case Victim.GDBSERVER | Victim.GUARD | Victim.INJECTOR:
                for pid in self._helpers(self.case.victim):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            case part:
                child: Child = self.pod.sidecar if part is Victim.SIDECAR else getattr(self.scene, part)
                await asyncio.to_thread(child.kill)

    def _helpers(self, only: Victim | None = None) -> list[int]:
        """Pids of whatever works for a debugger at the service's process: guard, gdbserver, injector."""
        mine, found = str(self.pod.service.pid).encode(), []
        for pid in procfs.pids():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if mine in words and (kind := _helper(words)) and only in (None, kind):
                found.append(pid)
        return found

    # -- what must be true --------------------------------------------------------------------------

    async def _promise(self, begun: float) -> None:
        if self.case.survives:
            await self._leave()
            begun = time.monotonic()
        elif self.case.victim is Victim.SIDECAR and self.case.moment is not Moment.DETACHING:
            # The session ends with its hold, which is given up when its lease has run out.
            await self.scene.street.until(self.name, lambda found: found.status.state.final)
            begun = time.monotonic()
        await self._within(begun + PROMISED, self._runs, "the process does not run untraced")
        left = begun + PROMISED - time.monotonic()
        answer = await self.scene.caller.http.get(f"{self.pod.service.where}/alive", timeout=max(0.5, left))
        assert answer.status_code == 200

    async def _leave(self) -> None:
        """The developer has seen enough."""
        assert self.client
        if self.case.debugger == "gdb":
            if self.case.moment is Moment.READY:
                self.client.process.send_signal(signal.SIGINT)
            self.client.say("detach\nquit\n")
        else:
            self.client.say("leave\n")
        await self.client.end(PROMISED)

    def _runs(self) -> str:
        found = facts(self.pod.service.pid)
        return "" if (found["tracer"], found["stopped"]) == (0, False) else str(found)

    async def _clean_up(self, held: "asyncio.Task[httpx.Response]") -> None:
        if self.client:
            await self.client.kill()
        await self._delete()
        try:
            answer = await asyncio.wait_for(asyncio.shield(held), MENDED)
        except TimeoutError:
            raise AssertionError("the held request was never let go") from None
        assert (answer.status_code, answer.json()["count"]) == (200, 1), answer.text
        until = time.monotonic() + MENDED
        await self._within(until, self._free, "something of the debugger stays")
        await self._within(until, self._litter, "something lies about")
        counts = await self.scene.caller.counts(self.pod)
        assert counts[self.path] == 1
        assert self.pod.service.process.poll() is None

    def _free(self) -> str:
        found, helpers = facts(self.pod.service.pid), self._helpers()
        return "" if found == FREE and not helpers else f"{found} {helpers}"

    def _litter(self) -> str:
        root = self.scene.world.directory / "agent"
        left = [str(entry) for place in ("target", "client") for entry in (root / place).iterdir()]
        return " ".join(left)

    async def _delete(self) -> None:
        await self._ask(delete_attachment(self.name))

    async def _ask(self, call: Call[T]) -> T:
        """An answer, also across the coordinator's absence."""
        until = time.monotonic() + MENDED
        while True:
            try:
                return await asyncio.to_thread(self.scene.street.client.send, call)
            except UnreachableError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)

    async def _within(self, until: float, look: Callable[[], str], what: str) -> None:
        """For facts of /proc, which tell nobody when they change; `look` gives what is wrong still."""
        while wrong := look():
            assert time.monotonic() < until, f"{what}: {wrong}; {await self._state()}"
            await asyncio.sleep(0.02)

    async def _state(self) -> str:
        try:
            found = await asyncio.to_thread(self.scene.street.client.send, get_attachment(self.name))
        except (ApiError, UnreachableError) as error:
            return error.message
        return str(found.status)

"""kill -9 of one part at one moment of a debugging, and what must be true afterwards.

One world is used for many runs, so that each also meets what the one before left behind.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import httpx

from demo.shop import Pod
from demo.world import Child, World
from squash.calls import Call, create_request, delete_attachment, get_attachment
from squash.errors import ApiError, UnreachableError
from squash.model import DebugAttachment, DebugRequest, HoldUntil, Phase, RequestSpec, State
from squash.tasks import spawn
from tests.drivers import Spot
from tests.drivers.helpers import OTHER, helpers_of
from tests.drivers.languages import USUAL, Language, tools
from tests.e2e.street import Caller, Street, patience
from tests.soak import client
from tests.soak.cases import Case, Moment, Victim, Way
from tests.soak.program import Program, local_end

T = TypeVar("T")
PROMISED = 10.0
"""Seconds after a kill -9 in which the process runs and nothing traces it."""
MENDED = 45.0
"""Seconds for what is promised without a number: the end of a hold, of an attachment, of a helper."""
SOON = 0.01
"""A pause in seconds that is over long before an injector ends that was just seen."""
HELD = 120.0
"""The longest hold in seconds."""


class Ware(NamedTuple):
    """A service of one language, built: its command, and where the tests break."""

    command: list[str]
    spot: Spot


class Stand(NamedTuple):
    """A pod, and what a debugger shows in its service before the first one has come."""

    pod: Pod
    untouched: dict[str, Any]


class Scene:
    """A coordinator, an agent, and a pod of each language as soon as it is needed."""

    def __init__(self, world: World, wares: Mapping[str, Ware], killed: Counter[Victim]) -> None:
        """In `killed` it counts who was there still when its kill came."""
        self.killed = killed
        self.world = world
        self.wares = wares
        self.street = Street(world)
        self.coordinator = self.street.coordinator
        self.agent = world.agent(environment=tools())
        self.caller = Caller()
        self._stands: dict[str, Stand] = {}
        self._count = 0

    async def close(self) -> None:
        await self.caller.http.aclose()
        self.street.close()

    async def play(self, case: Case) -> float:
        """Seconds from the kill until the process ran untraced and answered.

        Again and earlier when an injector had ended before its kill. Raises AssertionError, with what is wrong, when a
        promise is not kept.
        """
        self._count += 1
        stand = await asyncio.to_thread(self._stand, case.language)
        run = Run(self, case, stand, self._count)
        took = await run.play()
        if case.victim is Victim.INJECTOR and not run.killed and case.pause > SOON:
            return await self.play(replace(case, pause=case.pause / 2))
        return took

    def last_words(self) -> str:
        """Of the parts, for who has to find out why a promise was not kept."""
        children = [self.agent, self.coordinator, *(stand.pod.service for stand in self._stands.values())]
        return "\n".join(f"{each.name}: {each.last_words()}" for each in children)

    def _stand(self, language: Language) -> Stand:
        if language.name not in self._stands:
            command = [*self.wares[language.name].command, "127.0.0.1:0"]
            pod = self.street.pod(language.name, command=command, attachment_timeout=HELD)
            self._stands[language.name] = Stand(pod, language.look(pod.service.pid))
        return self._stands[language.name]

    def mend(self, victim: Victim, pod: Pod) -> None:
        """Starts again what was killed, at the same place."""
        if victim is Victim.COORDINATOR:
            self.coordinator = self.world.coordinator()
        elif victim is Victim.AGENT:
            self.agent = self.world.agent(environment=tools())
        elif victim is Victim.SIDECAR:
            listen = pod.sidecar.where.removeprefix("http://")
            pod.sidecar = self.world.sidecar(pod.name, *patience(HELD), listen=listen)


class Run:
    def __init__(self, scene: Scene, case: Case, stand: Stand, number: int) -> None:
        """`number` is what the service is asked for, and by nobody else."""
        self.scene, self.case, self.number = scene, case, number
        self.killed = 0
        """Processes that were there still when the kill came."""
        self.pod, self.untouched = stand
        self.page = f"/scaled?number={number}"
        self.name = ""
        self.client: Program | None = None
        self.connect: Program | None = None

    async def play(self) -> float:
        wish = await self._wish()
        if self.case.moment is Moment.UNCLAIMED:
            self.scene.agent.process.send_signal(signal.SIGSTOP)
        held = spawn(self.scene.caller.get(self.pod.url + self.page), "held")
        try:
            self.name = await self.scene.street.matched(wish)
            await self._reach()
            if self.case.victim is Victim.INJECTOR:
                await self._until_injecting()
            # The random moment is what is tested.
            await asyncio.sleep(self.case.pause)
            await self._kill()
            self.scene.killed[self.case.victim] += self.killed
            begun = time.monotonic()
            if self.case.victim is not Victim.AGENT:
                self.scene.agent.process.send_signal(signal.SIGCONT)
            took = await self._promise(begun)
            await asyncio.to_thread(self.scene.mend, self.case.victim, self.pod)
            await self._clean_up(held)
            return took
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
        world, language = self.scene.world, self.case.language
        address = attachment.status.debug_server_address or ""
        if self.case.way is Way.TUNNEL:
            self.connect, address = await local_end(world, self.scene.coordinator.where, self.name)
        spot = self.scene.wares[language.name].spot
        words = client.words(
            self.case.debugger, address, moment, spot if moment == "stopped" else language.elsewhere(spot)
        )
        self.client = await Program.start(world, words)
        await self.client.until(f"^{moment}$")

    # -- the kill -----------------------------------------------------------------------------------

    async def _kill(self) -> None:
        match self.case.victim:
            case Victim.CLIENT:
                program = self.connect or self.client
                assert program
                await program.kill()
                self.killed += 1
            case Victim.TRACER | Victim.GUARD | Victim.INJECTOR:
                found = self._helpers(self.case.victim)
                assert found or self.case.moment in (Moment.DETACHING, Moment.ATTACHING), "there is none to kill"
                for pid in found:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        self.killed += 1
            case part:
                child: Child = self.pod.sidecar if part is Victim.SIDECAR else getattr(self.scene, part)
                await asyncio.to_thread(child.kill)
                self.killed += 1

    def _helpers(self, only: Victim | None = None) -> list[int]:
        """Pids of whatever works for a debugger at the service's process: guard, tracer, injector."""
        found = helpers_of(self.pod.service.pid).items()
        return [pid for pid, kind in found if kind != OTHER and only in (None, kind)]

    # -- what must be true --------------------------------------------------------------------------

    async def _promise(self, begun: float) -> float:
        """Seconds until the process ran untraced and answered."""
        if self.case.survives:
            await self._leave()
            begun = time.monotonic()
        elif self.case.victim is Victim.SIDECAR and self.case.moment is not Moment.DETACHING:
            # The session ends with its hold, which is given up when its lease has run out.
            await self.scene.street.until(self.name, lambda found: found.status.state.final)
            begun = time.monotonic()
        await self._within(begun + PROMISED, self._runs, "the process does not run untraced")
        answer = await self._answer(0, begun + PROMISED - time.monotonic())
        assert answer["answer"] == 0
        return time.monotonic() - begun

    async def _answer(self, number: int, within: float) -> dict[str, int]:
        """What the service says, asked behind Envoy's back."""
        page = f"{self.pod.service.where}/scaled?number={number}"
        answer = await self.scene.caller.http.get(page, timeout=max(0.5, within))
        assert answer.status_code == 200
        found: dict[str, int] = answer.json()
        return found

    async def _leave(self) -> None:
        """The developer has seen enough."""
        assert self.client
        self.client.say("leave\n")
        await self.client.end(PROMISED)

    def _runs(self) -> str:
        found = self._look()
        return "" if (found["tracer"], found["stopped"]) == (0, False) else str(found)

    async def _clean_up(self, held: "asyncio.Task[httpx.Response]") -> None:
        if self.client:
            await self.client.kill()
        await self._delete()
        try:
            answer = await asyncio.wait_for(asyncio.shield(held), MENDED)
        except TimeoutError:
            raise AssertionError("the held request was never let go") from None
        assert answer.status_code == 200, answer.text
        assert answer.json() == {"answer": self.number * USUAL, "count": 1}
        until = time.monotonic() + MENDED
        await self._within(until, self._free, "something of the debugger stays")
        await self._within(until, self._litter, "something lies about")
        again = await self._answer(self.number, PROMISED)
        assert again["count"] == 2, f"the held request has reached the service {again['count'] - 1} times"
        assert self.pod.service.process.poll() is None

    def _free(self) -> str:
        found, helpers = self._look(), self._helpers()
        return "" if found == self.untouched and not helpers else f"{found} {helpers}"

    def _look(self) -> dict[str, Any]:
        assert self.pod.service.process.poll() is None, f"the service ended with {self.pod.service.process.poll()}"
        return self.case.language.look(self.pod.service.pid)

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

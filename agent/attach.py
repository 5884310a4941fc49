"""One attachment on this node, from the claim to the detach: a ladder of steps, each reported as it is reached."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from agent import leavings
from agent.aside import aside
from agent.audit import Audit
from agent.choice import AmbiguousError, pick
from agent.containers import Containers
from agent.debuggers import Debugger, DebugServer, Target, attempt
from agent.nursery import Nursery
from agent.places import Places
from agent.preflight import finding
from agent.preflight.run import examine
from agent.process import Process
from agent.protocols.interpreter import Event
from agent.report import Reporter
from agent.sessions import Doors, Ears, Session
from agent.targets import Targets
from agent.terms import Terms
from squash.client import AsyncClient
from squash.errors import SquashError
from squash.logs import Log
from squash.model import LONGEST_TEXT, Attempt, AuditEntry, DebugAttachment, HoldUntil, Phase, State, StatusPatch
from squash.reasons import Reason
from squash.settings import AgentSettings
from squash.tasks import spawn

LAST_REPORT = 5.0
"""Seconds that a stopping agent waits for a coordinator that does not answer."""
UNKNOWN = "unknown"
"""The actor in the audit trail when a client does not say who it is."""
DEATH = 1.0
"""Seconds between two looks whether the process still lives."""
DYING = 0.5
"""Seconds that the end of a process takes, from the first sign of it, on a busy machine."""
LONGEST_MESSAGE = 2000
"""Characters of `status.message`: a few screens are more than anybody reads."""


@dataclass(frozen=True)
class Tools:
    """What every attachment of this agent shares."""

    agent: str
    """The agent's identity, which stays the same across restarts."""
    settings: AgentSettings
    client: AsyncClient
    containers: Containers
    debuggers: Mapping[str, Debugger]
    places: Places
    targets: Targets
    guards: Nursery
    slots: asyncio.Semaphore
    audit: Audit


class Attachment:
    """`run` lives as long as the debugger sits in the process; `end` asks it to come out."""

    def __init__(self, wanted: DebugAttachment, tools: Tools) -> None:
        self._wanted = wanted
        self._tools = tools
        self._log = Log("attach", attachment=wanted.name)
        self._ending: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()
        self._reporter = Reporter(tools.client, wanted.name, self._log, lambda: self.end(Reason.DELETED))
        self._attached = False
        self._phase = Phase.LOCATED
        """The furthest that was reported."""
        self._told = False
        self._by_hand = bool(wanted.spec.ready_by_hand)
        self._hurry = asyncio.Event()
        self._process: Process | None = None
        """The process that this attachment has taken."""
        self.door: Session | None = None
        """Where clients of the debug server come in, while there is one."""

    def end(self, reason: Reason, *, told: bool = False) -> None:
        """The debugger is to be detached; the first reason counts. `told`: the coordinator has said why itself.

        When the agent stops, nothing that is still to be reported is waited for long.
        """
        if not self._ending.done():
            self._ending.set_result(reason)
            self._told = told
        if reason is Reason.AGENT_STOPPED:
            self._hurry.set()
        if self._process:
            self._tools.targets.leaving(self._process, self._wanted.name)

    async def run(self) -> None:
        claimed = spawn(self._claim(), f"claim {self._wanted.name}")
        await asyncio.wait((claimed, self._ending), return_when=asyncio.FIRST_COMPLETED)
        if not claimed.done() or not claimed.result():
            claimed.cancel()
            return
        reporting = spawn(self._reporter.run(), f"report {self._wanted.name}")
        serving = spawn(self._end_of_serving(), f"attachment {self._wanted.name}")
        try:
            await asyncio.wait({serving})
            self._report_end(*_end_of(serving))
            await self._last_report()
        finally:
            serving.cancel()
            reporting.cancel()

    async def _end_of_serving(self) -> tuple[Reason, str]:
        """Why it is over, and what more there is to say. What it raises besides is a fault of a plug-in, or ours."""
        try:
            return await self._attach_and_serve(), ""
        except SquashError as error:
            return error.reason, error.message
        except OSError as error:
            failed = SquashError(Reason.ATTACH_FAILED, str(error))
            return failed.reason, failed.message

    async def _last_report(self) -> None:
        """Waits until everything is reported, for as long as the coordinator is away; not long when the agent stops."""
        flushed, hurry = spawn(self._reporter.flush(), "last report"), spawn(self._hurry.wait(), "hurry")
        try:
            await asyncio.wait({flushed, hurry}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({flushed}, timeout=LAST_REPORT)
        finally:
            flushed.cancel()
            hurry.cancel()

    async def _claim(self) -> bool:
        """Makes the attachment this agent's; False when it is somebody else's or over."""
        return await self._reporter.deliver(StatusPatch(state=State.ATTACHING, agent=self._tools.agent))

    async def _attach_and_serve(self) -> Reason:
        """Returns why it is over; the debugger is out then."""
        self._report(phase=Phase.RESOLVING)
        process, debugger = await self._resolve()
        self._log.info("resolved", pid=process.pid, debugger=debugger.name)
        async with self._occupied(process), self._placed(debugger, process) as (target, socket):
            async with self._tools.slots:
                if self._ending.done():
                    return self._ending.result()
                server = await self._attach_to_the_one(debugger, target)
            try:
                return await self._serve(debugger, server, process, socket)
            finally:
                self._tools.targets.leaving(process, self._wanted.name)
                await server.detach()
                self._log.info("detached", pid=process.pid)

    @asynccontextmanager
    async def _occupied(self, process: Process) -> AsyncIterator[None]:
        await self._tools.targets.occupy(process, self._wanted.name)
        self._process = process
        try:
            yield
        finally:
            self._process = None
            self._tools.targets.leave(process, self._wanted.name)

    @asynccontextmanager
    async def _placed(self, debugger: Debugger, process: Process) -> AsyncIterator[tuple[Target, Path]]:
        """A place for the debugger, and the path of its clients' socket; nothing of it is left behind."""
        place = self._tools.places.make(debugger.name)
        target, orderly = Target(process, place.directory, guards=self._tools.guards), False
        try:
            yield target, place.socket
            orderly = True
        except (SquashError, OSError):
            orderly = True
            raise
        finally:
            if orderly:
                leavings.clear(place, target, self._tools.places)
            else:
                await leavings.undo(place, debugger, self._tools.places, self._log)

    async def _resolve(self) -> tuple[Process, Debugger]:
        spec = self._wanted.spec
        processes = await self._tools.containers.processes(spec.attachment)
        try:
            choice = pick(processes, self._tools.debuggers, spec)
        except AmbiguousError as error:
            self._report(candidates=error.candidates)
            raise
        except SquashError as error:
            if processes and not processes[0].alive:
                message = f"process {processes[0].pid} ended while its container was looked at"
                raise SquashError(Reason.PROCESS_GONE, message) from error
            raise
        self._report(choice=choice.why[:LONGEST_MESSAGE])
        return choice.process, choice.debugger

    async def _successor(self, gone: Process) -> str:
        """What runs in the container now, for whoever is told that the process is gone."""
        try:
            found = await self._tools.containers.processes(self._wanted.spec.attachment)
        except SquashError:
            return ""
        fresh = next((each for each in found if each.start_time > gone.start_time), None)
        return f"; the container was started again meanwhile, as process {fresh.pid}" if fresh else ""

    async def _attach_to_the_one(self, debugger: Debugger, target: Target) -> DebugServer:
        """Attaches; of a process that is gone it tells what came in its place."""
        try:
            return await self._attach(debugger, target)
        except SquashError as error:
            if error.reason is not Reason.PROCESS_GONE:
                raise
            successor = await self._successor(target.process)
            raise SquashError(error.reason, error.message + successor) from error

    async def _attach(self, debugger: Debugger, target: Target) -> DebugServer:
        process = target.process
        self._report(phase=Phase.STARTING, pid=process.pid, debugger=debugger.name, protocol=debugger.protocol)
        try:
            async with asyncio.timeout(self._tools.settings.attach_timeout):
                await self._preflight(debugger, target)
                server = await debugger.attach(target)
        except TimeoutError:
            limit = self._tools.settings.attach_timeout
            raise SquashError(
                Reason.ATTACH_TIMEOUT, f"{debugger.name} did not come up in process {process.pid} within {limit:g} s"
            ) from None
        except (SquashError, OSError) as error:
            told = isinstance(error, SquashError) and error.reason is Reason.PROCESS_GONE
            if not told and await _died(process, error):
                raise _gone(process, debugger) from error
            raise
        finally:
            self._log.info("attach tried", attempts=_told(target.attempts))
            if target.attempts:
                self._reporter.report(StatusPatch(attempts=list(target.attempts)))
        if not process.alive:
            await server.detach()
            raise _gone(process, debugger)
        return server

    async def _preflight(self, debugger: Debugger, target: Target) -> None:
        """Raises SquashError when the debugger would fail, or could harm the process: nothing was touched then."""
        began = time.monotonic()
        pid = target.process.pid
        try:
            findings = await aside(lambda: examine(debugger, target.process), f"preflight of {pid}")
        except asyncio.CancelledError:
            message = f"looking at process {pid} and its file systems did not come to an end"
            target.attempts.append(attempt("preflight", began, SquashError(Reason.ATTACH_TIMEOUT, message)))
            raise
        refusal, doubts = finding.refusal(findings), finding.warnings(findings)
        done = attempt("preflight", began, refusal)
        target.attempts.append(done if refusal or not doubts else replace(done, message=doubts))
        if refusal:
            raise refusal
        if doubts:
            self._report(message=doubts[:LONGEST_MESSAGE])

    async def _serve(self, debugger: Debugger, server: DebugServer, process: Process, socket: Path) -> Reason:
        spec, settings = self._wanted.spec, self._tools.settings
        session = Session(
            server,
            debugger.protocol,
            Doors(socket, settings.debug_listen, settings.insecure_debug_listen, process.uid),
            self._log,
            Terms(read_only=bool(spec.read_only), allow_terminate=bool(spec.allow_terminate)),
            Ears(self._connected, self._left, self._ready, self._note),
        )
        address = await session.listen()
        self.door = session
        at_once = spec.hold_until is not HoldUntil.READY
        self._attached = at_once
        self._report(phase=Phase.LISTENING, debug_server_address=address, state=State.ATTACHED if at_once else None)
        if self._by_hand:
            self.say_ready()
        serving = spawn(session.run(settings.first_client, settings.client_grace), "session")
        death = spawn(_death(process), f"end of {process.pid}")
        over: set[asyncio.Future[Any]] = {serving, self._ending, death}
        try:
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        finally:
            death.cancel()
            self.door = None
            if not serving.done():
                serving.cancel()
            await asyncio.wait({serving})
        if self._ending.done():
            return self._ending.result()
        if not process.alive:
            return Reason.PROCESS_GONE
        return serving.result()

    def _connected(self, client: str) -> None:
        self._report(phase=Phase.CLIENT_CONNECTED, client=client[:LONGEST_TEXT] or "somebody")

    def _left(self) -> None:
        self._report(client="")

    def _ready(self, remarks: str) -> None:
        state = None if self._attached else State.ATTACHED
        self._attached = True
        self._report(phase=Phase.READY, state=state, message=remarks[:LONGEST_MESSAGE] or None)

    def say_ready(self) -> None:
        """A developer says by hand that everything is ready; counts once there is a debug server."""
        self._by_hand = True
        if self.door and not self._attached:
            self._ready("said to be ready by hand")

    def _note(self, client: str, event: Event) -> None:
        spec = self._wanted.spec
        self._tools.audit.tell(
            AuditEntry(
                time=time.time(),
                actor=client[:LONGEST_TEXT] or UNKNOWN,
                action=event.action,
                attachment=self._wanted.name,
                request=spec.debug_request,
                image=spec.image,
                detail=event.detail[:LONGEST_TEXT] or None,
                agent=self._tools.agent,
            )
        )

    def _report(self, **fields: object) -> None:
        phase = fields.get("phase")
        if isinstance(phase, Phase):
            if phase.rank <= self._phase.rank:
                fields = {**fields, "phase": None}  # a later client does again what an earlier one did
            else:
                self._phase = phase
        given = {key: value for key, value in fields.items() if value is not None}
        if not given:
            return
        self._log.info("step", **given)
        self._reporter.report(StatusPatch(**given))  # type: ignore[arg-type]

    def _report_end(self, reason: Reason, message: str) -> None:
        if reason is Reason.DELETED:
            return
        if self._told:
            self._report(phase=Phase.DETACHED)
            return
        failed = not self._attached or reason in (Reason.DEBUGGER_DIED, Reason.PROCESS_GONE, Reason.INTERNAL)
        self._report(
            state=State.ERROR if failed else None,
            phase=Phase.DETACHED,
            reason=reason,
            message=(message or reason.meaning)[:LONGEST_MESSAGE],
        )


def _end_of(serving: asyncio.Task[tuple[Reason, str]]) -> tuple[Reason, str]:
    """Of a task that is done. Its log told of what it raised."""
    if serving.cancelled():
        return Reason.INTERNAL, ""
    if fault := serving.exception():
        failed = SquashError(Reason.INTERNAL, f"{Reason.INTERNAL.meaning}: {fault!r}")
        return failed.reason, failed.message
    return serving.result()


def _gone(process: Process, debugger: Debugger) -> SquashError:
    return SquashError(Reason.PROCESS_GONE, f"process {process.pid} ended while {debugger.name} was attached")


async def _died(process: Process, failure: SquashError | OSError) -> bool:
    """Whether the failure may be the process's end, which shows in many ways before the process is gone."""
    if process.alive and (isinstance(failure, OSError) or failure.reason is Reason.ATTACH_FAILED):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DYING):
                await _death(process, DYING / 20)
    return not process.alive


async def _death(process: Process, pause: float = DEATH) -> None:
    """Returns when the process has ended.

    One that is killed while a debugger of it stands still is a zombie that nobody is told of: the kernel waits until
    the debugger looks, which may be never (ptrace(2), "Death under ptrace").
    """
    while process.alive:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(pause)


def _told(attempts: list[Attempt]) -> str:
    return "; ".join(f"{a.strategy} {a.seconds * 1000:.0f} ms{': ' + a.message if a.message else ''}" for a in attempts)

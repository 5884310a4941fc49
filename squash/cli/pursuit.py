"""One `squashctl debug`, from the wish until nothing of it is left: waiting, the local end, a program, the end."""

import asyncio
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

from squash.cli.editors import configurations
from squash.cli.exits import Exit
from squash.cli.follow import PAUSE, POLL
from squash.cli.local_end import LocalEnd
from squash.cli.programs import Program
from squash.cli.target import place
from squash.cli.telling import Telling
from squash.cli.tether import files, tether
from squash.client import (
    AsyncClient,
    Call,
    Client,
    changes,
    create_attachment,
    create_request,
    delete_request,
    detach_attachment,
    get_request,
    renew_attachment,
    renew_request,
)
from squash.errors import ApiError, SquashError, UnreachableError
from squash.model import DebugAttachment, DebugRequest, Phase, State
from squash.options import Address
from squash.reasons import Reason
from squash.serve import bind
from squash.tasks import spawn
from squash.tunnel import Guest

LEASE = 30.0
"""Seconds after which the coordinator takes a squashctl that was killed for gone, and lets go what it asked for."""
UNDO = 10.0
"""Seconds that the end waits for the debugger to be out: an agent that is well needs less than one."""


@dataclass(frozen=True)
class Plan:
    """What is wanted. `wish` bears its name already, so that it can be taken back whenever."""

    wish: DebugRequest | DebugAttachment
    listen: Address
    guest: Guest
    send: str = ""
    """The command that sends a marked request; empty when nothing is waited for."""
    timeout: float | None = None
    """Seconds until a client must be able to connect; None: as long as it takes."""
    start: Program | None = None
    console: tuple[str, ...] = ()
    """The command that debugs in this terminal; it gets the attachment's name."""
    prints: tuple[str, ...] = ()
    """Editors whose configurations are shown; empty: of all that fit."""
    program: str = ""
    """The executable with its symbols."""
    mappings: tuple[tuple[str, str], ...] = ()


_ENDINGS: Mapping[int, Exit] = {
    signal.SIGINT: Exit.INTERRUPTED,
    signal.SIGTERM: Exit.TERMINATED,
    signal.SIGHUP: Exit.HUNG_UP,
}


class Pursuit:
    """`run` once. Ctrl-C, SIGTERM and a closed terminal take everything back, a second one quits at once."""

    def __init__(self, known: Client, plan: Plan, telling: Telling) -> None:
        """`known` says where the coordinator is, and who we are to it."""
        self._known = known
        self._plan = plan
        self._telling = telling
        self._client = AsyncClient(known.url, credentials=known.credentials, actor=plan.guest.client)
        self._attachment = plan.wish.name if isinstance(plan.wish, DebugAttachment) else ""
        self._over = False
        """The attachment has come to its end by itself."""
        self._local: LocalEnd | None = None
        self._opened = False
        """A client can connect, and has been told so."""
        self._tasks: list[asyncio.Task[Any]] = []
        self._stop: asyncio.Future[Exit]
        self._has_terminal = False
        """A program that was started gets Ctrl-C, not we."""
        self._files = AsyncExitStack()
        """Those of the program."""

    async def run(self) -> Exit:
        """How it ended. Raises SquashError when it could not be, or failed."""
        loop = asyncio.get_running_loop()
        self._stop = loop.create_future()
        for number in _ENDINGS:
            # Whoever starts us with nohup wants a closed terminal to be of no concern.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._signalled, number)
        late = loop.call_later(self._plan.timeout, self._late) if self._plan.timeout is not None else None
        async with self._files, self._client:
            work = spawn(self._work(), "debugging")
            ends: set[asyncio.Future[Any]] = {work, self._stop}
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if late:
                    late.cancel()
                await _ended(work, *self._tasks)
                await self._undo()
        failure = None if work.cancelled() else work.result()
        if failure and not self._stop.done():
            raise failure
        status = self._stop.result() if self._stop.done() else Exit.DONE
        if status is Exit.TIMEOUT:
            raise SquashError(Reason.WAIT_TIMEOUT, f"after {self._plan.timeout:g} s no client could connect")
        return status

    def _signalled(self, number: int) -> None:
        if number == signal.SIGINT and self._has_terminal:
            return
        if self._stop.done():
            self._telling.stop()
            os._exit(128 + number)
        if number == signal.SIGHUP:
            _speak_to_nobody()
        self._stop.set_result(_ENDINGS[number])
        with suppress(OSError):
            self._telling.event("ending", "taking everything back; once more quits at once")

    def _late(self) -> None:
        if not self._opened and not self._stop.done():
            self._stop.set_result(Exit.TIMEOUT)

    # -- from the wish to the session ---------------------------------------------------------------

    async def _work(self) -> Exception | None:
        """Why it is over, also that what is told or sent cannot be written; None when it is because it was done."""
        try:
            await self._begin()
            async for now in self._follow(self._attachment):
                self._telling.attachment(now)
                if _is_over(now):
                    self._over = True
                    return self._judged(now)
                if now.status.debug_server_address and not self._opened:
                    await self._open(now)
        except (SquashError, OSError, UnicodeEncodeError) as error:
            return error
        return None

    async def _begin(self) -> None:
        wish = self._plan.wish
        if isinstance(wish, DebugAttachment):
            await self._client.send(create_attachment(wish))
            self._tasks.append(spawn(self._keep(renew_attachment(wish.name)), "lease"))
            return
        await self._client.send(create_request(wish))
        image = wish.spec.image
        self._tasks.append(spawn(self._keep(renew_request(wish.name)), "lease"))
        self._telling.event(
            "waiting",
            f"waiting for a marked request that reaches {image}; Ctrl-C takes it back",
            request=wish.name,
            image=image,
            send=self._plan.send,
        )
        self._telling.result("Send one, from another terminal:", "", f"  {self._plan.send}", "")
        self._telling.now(f"waiting for a marked request that reaches {image}")
        self._attachment = await self._matched(wish.name)

    async def _keep(self, renewal: Call[Any]) -> None:
        """Renews the lease; whatever goes wrong, there is another time."""
        while True:
            await asyncio.sleep(LEASE / 3)
            try:
                await self._client.send(renewal)
            except ApiError as error:
                if error.reason is Reason.NOT_FOUND:
                    return
            except UnreachableError:
                continue

    async def _matched(self, name: str) -> str:
        while True:
            try:
                found = await self._client.send(get_request(name, wait=POLL))
            except SquashError as error:
                if error.reason is Reason.NOT_FOUND:
                    raise SquashError(Reason.EXPIRED, f"debug request {name} expired or was deleted") from error
                await self._bear(error)
                continue
            if found.status.debug_attachment_ref:
                return found.status.debug_attachment_ref

    async def _follow(self, name: str) -> AsyncIterator[DebugAttachment]:
        """The attachment, as it is and after each change. Raises SquashError when it is gone."""
        since = ""
        while True:
            try:
                news = await self._client.send(changes(since=since, names=[name], wait=POLL))
            except SquashError as error:
                await self._bear(error)
                continue
            since = news.revision
            own = [attachment for attachment in news.attachments if attachment.name == name]
            if own:
                yield own[0]
            elif news.reset or name in news.deleted:
                self._over = True
                raise SquashError(Reason.DELETED, f"debug attachment {name} was deleted")

    async def _bear(self, error: SquashError) -> None:
        """Waits for a coordinator that is restarted. Raises what cannot be waited out."""
        if error.reason is Reason.WAIT_TIMEOUT:
            return
        lasting = isinstance(error, ApiError) and error.code < 500 and error.reason is not Reason.STOPPING
        if lasting:
            raise error
        self._telling.away()
        await asyncio.sleep(PAUSE)

    def _judged(self, now: DebugAttachment) -> SquashError | None:
        """Whether this end is a failure."""
        status = now.status
        reason = status.reason or Reason.CLIENT_GONE
        if reason is Reason.PROCESS_AMBIGUOUS:
            return AmbiguousError(now)
        message = status.message or reason.meaning
        served = self._local.served > 0 if self._local else self._opened
        if served and reason in (Reason.CLIENT_GONE, Reason.ENDED):
            self._telling.event("over", f"over: {message}", reason=reason, message=message)
            return None
        return SquashError(reason, f"debug attachment {now.name}: {message}")

    # -- the session --------------------------------------------------------------------------------

    async def _open(self, now: DebugAttachment) -> None:
        """Opens the local end, and tells of it or starts the program."""
        self._opened = True
        if self._plan.console:
            self._tasks.append(spawn(self._run([*self._plan.console, now.name]), "console"))
            return
        sock = bind(self._plan.listen, "--listen")
        address = Address(*sock.getsockname()[:2])
        plan = self._plan
        where = place(now, address, self._known.url, plan.program, plan.mappings)
        self._local = LocalEnd(self._known.url, now.name, self._note, plan.guest, self._known.credentials)
        self._tasks.append(spawn(self._serve(self._local, sock), "local end"))
        shown = configurations(where, plan.prints)
        self._telling.event(
            "connect",
            f"connect your debugger to {address} ({where.protocol})",
            listen={"host": address.host, "port": address.port},
            protocol=where.protocol,
            debugger=where.debugger,
            configurations={name: text for name, (_, text) in shown.items()},
        )
        if plan.start:
            plan.start.check_speaks(where)
            command = plan.start.command(where, lambda: self._files.enter_context(files()))
            self._tasks.append(spawn(self._run(command), plan.start.name))
            return
        for editor, text in shown.values():
            indented = (f"  {line}" for line in text.splitlines())
            self._telling.result("", f"{editor.title}: {editor.where}", "", *indented)
        self._telling.result("")

    async def _serve(self, local: LocalEnd, sock: socket.socket) -> None:
        with sock:
            await local.listen(sock, only_one=False)

    async def _run(self, command: list[str]) -> None:
        """Gives a program the terminal; its end is the session's."""
        self._telling.stop()
        self._telling.muted = self._has_terminal = True
        process = await asyncio.create_subprocess_exec(*command, preexec_fn=tether())
        try:
            await process.wait()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        finally:
            self._telling.muted = self._has_terminal = False
        if not self._stop.done():
            self._stop.set_result(Exit.DONE)

    def _note(self, text: str) -> None:
        try:
            self._telling.event("client", text)
        except OSError as error:
            if not self._stop.done():
                self._stop.set_exception(error)

    # -- the end ------------------------------------------------------------------------------------

    async def _undo(self) -> None:
        """Leaves no debug request and no debugger. What cannot be reached ends by its lease."""
        wish = self._plan.wish
        try:
            if isinstance(wish, DebugRequest):
                await self._take_back(wish.name)
            elif not self._over:
                await self._detach()
        except SquashError as error:
            if error.reason is not Reason.NOT_FOUND:
                self._telling.event("left", f"could not take it back: {error.message}", message=error.message)

    async def _take_back(self, request: str) -> None:
        try:
            found = await self._client.send(get_request(request))
        except ApiError as error:
            # It never came to be, or is over.
            if error.reason is not Reason.NOT_FOUND:
                raise
        else:
            self._attachment = found.status.debug_attachment_ref or ""
        if self._attachment and not self._over:
            await self._detach()
        await self._client.send(delete_request(request))

    async def _detach(self) -> None:
        """Lets go what is held and takes the debugger out; returns when it is out."""
        await self._client.send(detach_attachment(self._attachment))
        try:
            async with asyncio.timeout(UNDO):
                async for now in self._follow(self._attachment):
                    with suppress(OSError):  # nobody may read on
                        self._telling.attachment(now)
                    if _is_undone(now):
                        return
        except TimeoutError:
            text = "the agent has not said yet that the debugger is out; it takes it out when it is back"
            with suppress(OSError):
                self._telling.event("left", text)


class AmbiguousError(SquashError):
    """The agent asks which process is meant."""

    def __init__(self, attachment: DebugAttachment) -> None:
        super().__init__(Reason.PROCESS_AMBIGUOUS, attachment.status.message or "")
        self.candidates = attachment.status.candidates or []


def _is_over(now: DebugAttachment) -> bool:
    return now.status.state is State.ERROR or now.status.phase is Phase.DETACHED


def _is_undone(now: DebugAttachment) -> bool:
    status = now.status
    out = not status.agent or status.phase is Phase.DETACHED
    return out and (not now.spec.holder or status.outcome is not None)


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _speak_to_nobody() -> None:
    """Whatever is written to a terminal that is gone fails, and there is something to be done yet."""
    nobody = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.dup2(nobody, descriptor)
    os.close(nobody)

"""All holds of this process: carries out the commands of each `Hold`, and feeds it what happens."""

import asyncio
import secrets
import time
from collections.abc import Callable

import msgspec

from squash.calls import Call, create_attachment, decode, get_attachment
from squash.errors import ApiError, UnreachableError
from squash.logs import Log
from squash.model import DebugAttachment, Metadata
from squash.reasons import Reason
from squash.result import Result
from squash.settings import SidecarSettings
from squash.tasks import spawn

from .backoff import Backoff
from .headers import MarkedRequest
from .hold import (
    Barred,
    CallerGone,
    Cancel,
    Changed,
    Command,
    Create,
    Created,
    Event,
    Hold,
    LetGo,
    Marked,
    Overloaded,
    Refused,
    Report,
    Stage,
    Stopping,
    Tick,
    Vanished,
    Wait,
)
from .http1 import Http1Client
from .identity import Peer
from .metrics import Metrics
from .reports import Reports
from .tenants import Tenant, Tenants
from .watch import Watch

LATE = 2.0
"""Seconds beyond the request timeout that an answer to a creation is still read, to cancel what it created."""
CREATIONS_AT_ONCE = 64
AFTERWARDS = 0.1
"""Seconds after the first of many holds that end together, in which nothing is done but to let go."""
LEEWAY = 5.0
"""Seconds that the coordinator keeps an attachment longer than the longest hold."""
_log = Log("holds")


class Held:
    """One hold, and what its caller waits for."""

    def __init__(self, hold: Hold, marked: MarkedRequest, tenant: Tenant, came: float) -> None:
        loop = asyncio.get_running_loop()
        self.hold = hold
        self.began = time.time_ns() - round((loop.time() - came) * 1e9)
        """Unix time in nanoseconds."""
        self.tenant = tenant
        self.attachment = tenant.attachment
        """As the coordinator gave it back; until then, as it is asked for."""
        self.marked = marked
        self.request = marked.held
        self.placed: asyncio.Future[None] = loop.create_future()
        """Done when the hold waits for the debugger, or is over already."""
        self.over: asyncio.Future[Result] = loop.create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.problem = tenant.problem
        """The last thing that went wrong, in words, for the log."""


class Holds:
    """`tenants` know what attachment each marked request creates; `ended` is called with each hold that is over."""

    def __init__(
        self,
        client: Http1Client,
        tenants: Tenants,
        settings: SidecarSettings,
        ended: Callable[[Held], None] = lambda held: None,
    ) -> None:
        self._client = client
        self._tenants = tenants
        self._settings = settings
        self._ended = ended
        self._holder = f"sidecar-{secrets.token_hex(8)}"
        self._open: dict[str, Held] = {}
        self._over: list[Held] = []
        self._stopping = False
        self._creations = asyncio.Semaphore(CREATIONS_AT_ONCE)
        self._watch = Watch(client, self._holder, settings.poll_period, self._changed, self._vanished)
        self._reports = Reports(
            client, timeout=settings.request_timeout + LATE, poll_period=settings.poll_period, pause=AFTERWARDS
        )
        self.metrics = Metrics(lambda: len(self._open))

    @property
    def stopping(self) -> bool:
        return self._stopping

    def begin(self, request: MarkedRequest, peer: Peer | None, came: float) -> Held:
        """Holds a marked request that came from `peer`, whose caller then waits for `placed` and `over`.

        All its time is counted from when the call about it `came` (time of the loop): the caller's patience began then.
        """
        settings = self._settings
        hold = Hold(
            f"held-{secrets.token_hex(10)}",
            request_timeout=settings.request_timeout,
            attachment_timeout=settings.attachment_timeout,
        )
        tenant = self._tenants.begin(request.claims, peer)
        held = Held(hold, request, tenant, came)
        full = tenant.full or len(self._open) >= settings.max_holds
        self._open[hold.name] = held
        if tenant.barred:
            self._feed(held, Barred(tenant.barred), came)
        else:
            self._feed(held, Overloaded() if full else Marked(), came)
        if self._stopping:
            self._feed(held, Stopping())
        return held

    def caller_gone(self, held: Held) -> None:
        self._feed(held, CallerGone())

    def stop(self) -> None:
        """Lets go whatever is held, and holds nothing from now on."""
        self._stopping = True
        for held in list(self._open.values()):
            self._feed(held, Stopping())
        self._watch.stop()

    async def close(self) -> None:
        """After `stop`: tells the coordinator what became of the holds, as far as it is there."""
        self._write_down()
        await self._reports.flush(timeout=self._settings.request_timeout)
        self._client.close()

    # -- events

    def _changed(self, attachment: DebugAttachment) -> None:
        if held := self._open.get(attachment.name):
            self._feed(held, Changed(attachment))

    def _vanished(self, name: str) -> None:
        if held := self._open.get(name):
            self._feed(held, Vanished())

    def _feed(self, held: Held, event: Event, when: float | None = None) -> None:
        """`when` it happened, if not now."""
        loop = asyncio.get_running_loop()
        for command in held.hold.handle(event, loop.time() if when is None else when):
            self._obey(held, command)
        if held.timer is not None:
            held.timer.cancel()
        due = held.hold.deadline
        held.timer = loop.call_at(due, self._feed, held, Tick()) if due is not None else None

    # -- commands

    def _obey(self, held: Held, command: Command) -> None:
        match command:
            case Create(name):
                spawn(self._create(held), f"create {name}")
            case Wait(name):
                held.placed.set_result(None)
                self._watch.add(name)
            case LetGo(result):
                self._let_go(held, result)
            case Cancel() | Report():
                self._reports.add(command)

    def _let_go(self, held: Held, result: Result) -> None:
        held.over.set_result(result)
        if not held.placed.done():
            held.placed.set_result(None)
        del self._open[held.hold.name]
        self._tenants.end(held.tenant)
        self._watch.discard(held.hold.name)
        self.metrics.ended(result)
        if not self._over:
            asyncio.get_running_loop().call_later(AFTERWARDS, self._write_down)
        self._over.append(held)

    def _write_down(self) -> None:
        """What can wait until those who were let go are on their way."""
        over, self._over = self._over, []
        for held in over:
            result = held.over.result()
            self._ended(held)
            _log.info(
                "let go",
                hold=held.hold.name,
                method=held.request.method,
                path=held.request.path.partition("?")[0] if held.request.path else None,
                outcome=result.outcome,
                reason=result.reason,
                held=result.held,
                pod=held.tenant.pod,
                problem=held.problem,
                request_id=held.request.request_id,
            )

    # -- creation

    async def _create(self, held: Held) -> None:
        call = create_attachment(self._attachment(held))
        backoff = Backoff(self._settings.poll_period)
        tried = False
        while True:
            try:
                async with self._creations:
                    if held.hold.stage is not Stage.CREATING:
                        return
                    event = await self._ask(held, call, again=tried)
            except UnreachableError as error:
                held.problem = error.message
                tried = True
                await asyncio.sleep(backoff.pause())
            else:
                self._feed(held, event)
                return

    async def _ask(self, held: Held, call: Call[DebugAttachment], *, again: bool) -> Event:
        """One try of the creation. `again` is true when an earlier one may have landed without our hearing of it."""
        timeout = self._settings.request_timeout + LATE
        try:
            code, content = await self._client.exchange(call, timeout)
            if code == 409 and again:
                attachment = await self._client.send(get_attachment(held.hold.name), timeout)
                code = 201 if attachment.spec.holder == self._holder else 409
            else:
                attachment = decode(call, self._client.url, code, content)
        except ApiError as error:
            held.problem = error.message
            return Refused(error.reason)
        if code != 201 or attachment.name != held.hold.name:
            held.problem = f"expected 201 and the attachment {held.hold.name}, but got {code} and {attachment.name!r}"
            return Refused(Reason.COORDINATOR_REFUSED)
        held.attachment = attachment
        return Created(attachment)

    def _attachment(self, held: Held) -> DebugAttachment:
        spec = msgspec.structs.replace(
            held.tenant.attachment.spec,
            holder=self._holder,
            held=held.request,
            ticket=held.marked.ticket,
            trigger=held.marked.trigger,
            failure=held.marked.failure,
            ttl=self._settings.attachment_timeout + LEEWAY,
        )
        return DebugAttachment(metadata=Metadata(name=held.hold.name), spec=spec)

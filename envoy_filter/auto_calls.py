"""The calls that Envoy makes for auto-debug.

POST /v3/discovery:runtime   Envoy's discovery of runtime values, over REST: a long poll, 304 without news
POST /auto/failure           an answer has failed and waits: 204 it goes to the caller, 202 it is to be held
POST /auto/failure/hold      the same, to be held: 204 it was not; 200 it was, and with `x-squash-replay` Envoy sends
                             the request again
POST /auto/slow              answers were slow, in OTLP (otlp.py): 200
POST /auto/next              a request after a slow one waits: 204 it goes on, 202 it is to be held
POST /auto/next/hold         the same, to be held: 204 it was not, 200 it was

Whether to hold is decided here, without asking anybody. So Envoy limits that call to an instant, and holds by another
one, which has to decide anew because somebody else's may have come first. The first one changes nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import msgspec

from squash.model import Failure, Outcome, Trigger
from squash.result import HEADER
from squash.tasks import spawn

from .answers import Receive, Scope, Send, answer
from .armed import Armed
from .headers import marked_request
from .holds import Held, Holds
from .lookout import Kind, Lookout, Seen, Skip
from .metrics import Metrics
from .onward import onward
from .ticket import Gate
from .told import PATIENCE, REPLAY, SLOW_FROM, seen

_TYPE = "type.googleapis.com/envoy.service.runtime.v3.Runtime"
_LARGEST = 65_536


@dataclass(frozen=True)
class _Due:
    """Why a request is to be held."""

    trigger: Trigger
    failure: Failure


Call = Callable[[Scope, Receive, Send], Awaitable[Held | None]]
"""Answers, or gives the hold whose end will be the answer."""


class _Asked(msgspec.Struct):
    """What counts of Envoy's DiscoveryRequest."""

    version_info: str = ""
    resource_names: list[str] = []


class AutoCalls:
    """Answers them. Of a failed answer's headers those that are `allowed` are told to the coordinator."""

    def __init__(self, holds: Holds, gate: Gate, armed: Armed, lookout: Lookout, allowed: Collection[str]) -> None:
        self._holds = holds
        self._gate = gate
        self._armed = armed
        self._lookout = lookout
        self._allowed = frozenset(name.lower() for name in allowed)
        self.calls: dict[tuple[str, str], Call] = {
            ("POST", "/v3/discovery:runtime"): self._discovery,
            ("POST", "/auto/failure"): partial(self._ask, self._failed),
            ("POST", "/auto/failure/hold"): partial(self._hold, self._failed),
            ("POST", "/auto/slow"): self._slow,
            ("POST", "/auto/next"): partial(self._ask, self._next),
            ("POST", "/auto/next/hold"): partial(self._hold, self._next),
        }

    async def _discovery(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            asked = msgspec.json.decode(await _body(receive), type=_Asked)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            await answer(send, 400, body=f"no discovery request: {error}\n".encode())
            return
        news = spawn(self._armed.changed(asked.version_info, PATIENCE), "news for Envoy")
        try:
            await asyncio.wait((news, scope["state"]["link"].closed), return_when=asyncio.FIRST_COMPLETED)
            if not news.done():
                return
        finally:
            news.cancel()
        if not news.result():
            await answer(send, 304)
            return
        values = {str(kind): 100 if kind is self._armed.kind else 0 for kind in Kind}
        if self._armed.slow_from is not None:
            values[SLOW_FROM] = int(self._armed.slow_from * 1000)
        runtimes = [{"@type": _TYPE, "name": name, "layer": {name: values}} for name in asked.resource_names]
        document = {"version_info": self._armed.version, "type_url": _TYPE, "resources": runtimes}
        await answer(send, 200, {"content-type": "application/json"}, msgspec.json.encode(document))

    def _failed(self, told: Seen) -> _Due | Skip:
        return self._lookout.failed(told) or _Due(Trigger.FAILURE, told.failure)

    def _next(self, told: Seen) -> _Due | Skip:
        due = self._lookout.due(told, asyncio.get_running_loop().time())
        return due if isinstance(due, Skip) else _Due(Trigger.LATENCY, due)

    async def _ask(self, decide: Callable[[Seen], _Due | Skip], scope: Scope, _: Receive, send: Send) -> None:
        due = decide(replace(self._seen(scope), marked=await self._bears_a_mark(scope)))
        await (self._pass(due, send) if isinstance(due, Skip) else answer(send, 202))

    async def _hold(self, decide: Callable[[Seen], _Due | Skip], scope: Scope, _: Receive, send: Send) -> Held | None:
        due = decide(replace(self._seen(scope), marked=await self._bears_a_mark(scope)))
        if isinstance(due, Skip):
            await self._pass(due, send)
            return None
        self._lookout.busy = True
        marked = replace(marked_request(scope["headers"]), trigger=due.trigger, failure=due.failure)
        held = self._holds.begin(marked, scope["state"]["link"].peer, asyncio.get_running_loop().time())
        # Not before it is known that it is really held: that another was faster changes nothing for Envoy.
        held.placed.add_done_callback(lambda _: self._armed.look())
        held.over.add_done_callback(self._over)
        return held

    async def _slow(self, _: Scope, receive: Receive, send: Send) -> None:
        from .otlp import records  # noqa: PLC0415 - most sidecars never see a slow answer

        try:
            found = list(records(await _body(receive)))
        except ValueError as error:
            await answer(send, 400, body=f"{error}\n".encode())
            return
        for record in found:
            skip = self._lookout.slow(seen(record, self._allowed), asyncio.get_running_loop().time())
            self._metrics.decided("slow_seen" if skip is None else "skipped", skip)
        self._armed.look()
        await answer(send, 200)

    async def _bears_a_mark(self, scope: Scope) -> bool:
        """Whether the request bears a mark that counts."""
        request = marked_request(scope["headers"])
        return request.mark is not None and await self._gate.admitted(request) is not None

    @property
    def _metrics(self) -> Metrics:
        return self._holds.metrics

    def _seen(self, scope: Scope) -> Seen:
        return seen(scope["headers"], self._allowed)

    async def _pass(self, skip: Skip, send: Send) -> None:
        self._metrics.decided("skipped", skip)
        await answer(send, 204)

    def headers(self, held: Held) -> dict[str, str] | None:
        """What Envoy is told at the end of a hold that began here; None when nothing was held at all."""
        result = held.over.result()
        if result.id is None:
            self._metrics.decided("skipped", result.reason)
            return None
        self._metrics.decided("held")
        headers = {HEADER: str(result)}
        if held.marked.trigger is Trigger.LATENCY:
            return headers | onward(held.marked, result)
        # Without a debugger that sees it, a second try would be good for nothing.
        if result.outcome is Outcome.ATTACHED:
            self._metrics.decided("replayed")
            headers[REPLAY] = "yes"
        return headers

    def _over(self, _: Any) -> None:
        self._lookout.busy = False
        self._armed.look()


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body") or len(body) > _LARGEST:
            return bytes(body)

"""A coordinator of the tests' own: enough of the REST API to hold by, and wrong answers on demand."""

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

import msgspec

from squash.model import AttachmentPatch, Changes, DebugAttachment, Refusal, State, StatusPatch
from squash.reasons import Reason
from tests.envoy_filter.http_server import HttpServer, Reply, Request

Answer = Callable[[Request], Awaitable[Reply | bytes | None]]


def refusal(code: int, reason: Reason) -> Reply:
    return Reply(code, msgspec.json.encode(Refusal(code=code, reason=reason, message=reason.meaning, remedy="")))


class CoordinatorDouble(HttpServer):
    """`instead` replaces the answer to `create`, `get`, `patch` or `changes`."""

    def __init__(self) -> None:
        super().__init__(self._route)
        self.instead: dict[str, Answer] = {}
        self.attachments: dict[str, DebugAttachment] = {}
        self.patches: list[tuple[str, StatusPatch]] = []
        self.calls: list[str] = []
        """On behalf of requests; a sidecar also asks for triggers now and then."""
        self.epoch = 0
        self._log: list[str] = []
        self._moved = asyncio.Condition()

    async def until(self, true: Callable[[], bool]) -> None:
        """Waits until something is true of what was called or changed here; at most 30 s."""
        async with self._moved, asyncio.timeout(30):
            await self._moved.wait_for(true)

    async def created(self, count: int = 1) -> list[str]:
        """Names of the attachments, once there are `count`."""
        await self.until(lambda: len(self.attachments) >= count)
        return list(self.attachments)

    async def change(self, name: str, state: State, reason: Reason | None = None) -> None:
        self._step(name, StatusPatch(state=state, reason=reason))
        await self._note(name)

    async def delete(self, name: str) -> None:
        del self.attachments[name]
        await self._note(name)

    def forget_revisions(self) -> None:
        """What a start anew does to the revisions that were given out before."""
        self.epoch += 1

    def patched(self, name: str) -> list[StatusPatch]:
        return [status for patched, status in self.patches if patched == name]

    async def _note(self, name: str | None = None) -> None:
        async with self._moved:
            if name:
                self._log.append(name)
            self._moved.notify_all()

    def _step(self, name: str, status: StatusPatch) -> DebugAttachment:
        before = self.attachments[name]
        after = msgspec.structs.replace(before.status, **dict(status.fields()))
        self.attachments[name] = msgspec.structs.replace(before, status=after)
        return self.attachments[name]

    async def _route(self, request: Request) -> Reply | bytes | None:
        kind, own = self._kind(request)
        if kind != "trigger":
            self.calls.append(kind)
        await self._note()
        return await self.instead.get(kind, own)(request)

    def _kind(self, request: Request) -> tuple[str, Answer]:
        match request.method, request.path.removeprefix("/api/v2/").strip("/").split("/"):
            case "POST", ["debugattachment"]:
                return "create", self.create
            case "GET", ["debugattachment", _]:
                return "get", self.get
            case "PATCH", ["debugattachment", _]:
                return "patch", self.patch
            case "GET", ["changes"]:
                return "changes", self.changes
            case "GET", ["trigger"]:
                return "trigger", self.unknown
        return "unknown", self.unknown

    async def unknown(self, request: Request) -> Reply:
        return refusal(404, Reason.NOT_FOUND)

    async def create(self, request: Request) -> Reply:
        attachment = msgspec.json.decode(request.body, type=DebugAttachment)
        if attachment.name in self.attachments:
            return refusal(409, Reason.NAME_TAKEN)
        self.attachments[attachment.name] = attachment
        await self._note(attachment.name)
        return Reply(201, msgspec.json.encode(attachment))

    async def get(self, request: Request) -> Reply:
        found = self.attachments.get(unquote(request.path.rsplit("/", 1)[1]))
        return Reply(200, msgspec.json.encode(found)) if found else refusal(404, Reason.NOT_FOUND)

    async def patch(self, request: Request) -> Reply:
        name = unquote(request.path.rsplit("/", 1)[1])
        status = msgspec.json.decode(request.body, type=AttachmentPatch).status
        self.patches.append((name, status))
        await self._note()
        if name not in self.attachments:
            return refusal(404, Reason.NOT_FOUND)
        if status.state and status.state.rank <= self.attachments[name].status.state.rank:
            return refusal(409, Reason.ILLEGAL_STEP)
        return Reply(200, msgspec.json.encode(self._step(name, status)))

    async def changes(self, request: Request) -> Reply:
        query = request.query
        epoch, _, count = query.get("since", "").partition(".")
        states = query.get("states", "none,attaching,attached,error").split(",")
        reset = epoch != str(self.epoch)
        start = 0 if reset else int(count)
        log = self._log

        def names() -> list[str]:
            touched = self.attachments if reset else dict.fromkeys(log[start:])
            return [n for n in touched if n not in self.attachments or self.attachments[n].status.state in states]

        if query.get("wait") and not reset:
            try:
                async with self._moved, asyncio.timeout(float(request.header("x-timeout") or "10")):
                    await self._moved.wait_for(names)
            except TimeoutError:
                return refusal(408, Reason.WAIT_TIMEOUT)
        found = names()
        answer = Changes(
            revision=f"{self.epoch}.{len(log)}",
            reset=reset,
            attachments=[self.attachments[name] for name in found if name in self.attachments],
            deleted=[] if reset else [name for name in found if name not in self.attachments],
        )
        return Reply(200, msgspec.json.encode(answer))

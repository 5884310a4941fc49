"""The REST API: each handler reads one call, lets the service decide, and answers."""

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import Any, TypeVar

from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive

from coordinator import openapi, query, rights, watch
from coordinator.access import Access, caller
from coordinator.agents import Agents
from coordinator.document import document
from coordinator.http import PRIVATE, Body, ClientGoneError, Handler, Method, Resource, actor, answer, refusal
from coordinator.metrics import CONTENT_TYPE
from coordinator.records import Records
from coordinator.rights import Principal
from coordinator.selection import Selection
from coordinator.service import Service
from coordinator.switchboard import Switchboard
from coordinator.token_api import TokenApi
from coordinator.tunnel import Meeting, Tunnel, guarded, upgrade_needed
from coordinator.waiting import Key
from squash import __version__
from squash.errors import ApiError
from squash.model import AttachmentPatch, Changes, Coordinator, DebugAttachment, DebugRequest, Wishes
from squash.reasons import Reason
from squash.settings import CoordinatorSettings
from squash.tasks import spawn
from squash.ticket import TicketWish

T = TypeVar("T")
DEEPEST = 32
"""Levels of `spec.attachment`: whoever reads the object again must have room for them."""


def application(service: Service, access: Access, records: Records, settings: CoordinatorSettings) -> Starlette:
    """The ASGI application of the coordinator."""
    api = Api(service, access, settings)
    switchboard: Switchboard[Meeting] = Switchboard()
    service.metrics.gauge("squash_tunnel_agents", "Agents with an open line", lambda: switchboard.agents)
    service.metrics.gauge("squash_tunnel_streams", "Streams through the tunnel", lambda: switchboard.streams)
    tunnel = Tunnel(service, switchboard)
    owners = (api, records, Agents(service, settings), TokenApi(access, service.board, settings))
    routes: list[BaseRoute] = []
    paths: dict[str, dict[str, Method]] = {}
    for operation in openapi.OPERATIONS:
        if operation.websocket:
            endpoint = guarded(getattr(tunnel, operation.id), operation, access)
            routes.append(WebSocketRoute(_pattern(operation.path), endpoint))
            handler: Handler = upgrade_needed
        else:
            handler = next(getattr(owner, operation.id) for owner in owners if hasattr(owner, operation.id))
        paths.setdefault(operation.path, {})[operation.method] = Method(handler, operation.roles, operation.tunnel)
    # An id may hold slashes or be empty: a path with one comes last, and the shorter of those after the longer.
    for path, methods in sorted(paths.items(), key=lambda pair: ("{id}" in pair[0], -pair[0].count("/"))):
        resource = Resource(path, methods, service.metrics, access)
        routes += [Route(_pattern(path), resource), Route(f"{_pattern(path)}/", resource)]
    handlers: dict[Any, Callable[[Request, Exception], Response]] = {HTTPException: api.unknown, Exception: api.fault}
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app


def _pattern(path: str) -> str:
    return path.replace("{id}", "{id:any}")


class _AnyText(Convertor[str]):
    """An id in a path may hold escaped slashes and line feeds; there is no such object, and the answer says so."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value.removesuffix("/")

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("any", _AnyText())


class Api:
    """Handlers by the ids of `openapi.OPERATIONS`. Raises ApiError for every refusal."""

    def __init__(self, service: Service, access: Access, settings: CoordinatorSettings) -> None:
        self._service = service
        self._access = access
        self._board = service.board
        self._waiting = service.waiting
        self._max_wait = settings.max_wait
        self._about = Coordinator(
            version=__version__,
            started=time.time(),
            store=settings.store,
            platform=settings.platform,
            auth=settings.auth,
        )
        self._attachment = Body(DebugAttachment, settings.max_body)
        self._patch = Body(AttachmentPatch, settings.max_body)
        self._request = Body(DebugRequest, settings.max_body)
        self._ticket = Body(TicketWish, settings.max_body)

    # -- debug attachments --------------------------------------------------------------------------

    async def create_attachment(self, request: Request) -> Response:
        wanted = await self._attachment.read(request)
        if not _shallow(wanted.spec.attachment, DEEPEST):
            raise ApiError(422, Reason.INVALID, f"spec.attachment is nested deeper than {DEEPEST} levels")
        principal = caller(request.scope)
        admitted, place = partial(rights.new_attachment, principal), partial(rights.check_place, principal)
        return answer(await self._service.create_attachment(wanted, actor(request), admitted, place), 201)

    async def list_attachments(self, request: Request) -> Response:
        principal = caller(request.scope)
        chosen = rights.visible(principal, query.selection(request))

        def look(_: int = 0) -> list[DebugAttachment] | None:
            return list(chosen.of(self._board)) or None

        if not self._waits(request):
            return answer(look() or [])
        with self._watching(principal, chosen):
            return answer(look() or await self._wait(request, chosen.keys, look))

    async def get_attachment(self, request: Request) -> Response:
        name = _id(request)
        if there := self._board.attachments.get(name):
            rights.check_sees(caller(request.scope), there)

        def look(_: int = 0) -> DebugAttachment | None:
            found = self._board.attachment(name)
            return found if found.status.state.final else None

        if not self._waits(request):
            return answer(self._board.attachment(name))
        return answer(look() or await self._wait(request, [("attachment", name)], look))

    async def patch_attachment(self, request: Request) -> Response:
        patch = await self._patch.read(request)
        rights.check_patch(caller(request.scope), self._board.attachment(_id(request)), patch)
        return answer(self._service.patch_attachment(_id(request), patch, actor(request)))

    async def release_attachment(self, request: Request) -> Response:
        self._check_attachment(request)
        return answer(self._service.release_attachment(_id(request), actor(request)))

    async def detach_attachment(self, request: Request) -> Response:
        self._check_attachment(request)
        return answer(self._service.detach_attachment(_id(request), actor(request)))

    async def ready_attachment(self, request: Request) -> Response:
        self._check_attachment(request)
        return answer(self._service.ready_attachment(_id(request), actor(request)))

    async def renew_attachment(self, request: Request) -> Response:
        self._check_attachment(request)
        return answer(self._service.renew_attachment(_id(request)))

    async def delete_attachment(self, request: Request) -> Response:
        self._check_attachment(request)
        self._service.delete_attachment(_id(request), actor(request))
        return Response()

    async def watch_changes(self, request: Request) -> Response:
        principal = caller(request.scope)
        chosen = rights.visible(principal, query.selection(request))
        waits = self._waits(request)
        with self._watching(principal, chosen):
            return answer(await self._news(request, chosen, waits=waits))

    def _watching(self, principal: Principal, chosen: Selection) -> AbstractContextManager[None]:
        """Meanwhile the agents and sidecars of the selection are there; others who look on keep nothing alive."""
        return self._service.presence.watching(chosen if principal.carries_on else Selection())

    async def _news(self, request: Request, chosen: Selection, *, waits: bool) -> Changes:
        count = self._waiting.count_of(request.query_params.get("since", ""))
        if count is None:
            return watch.everything(self._board, self._waiting, chosen)

        def look(count: int) -> Changes | None:
            return watch.news(self._board, self._waiting, chosen, count)

        found = look(count)
        if found is None and waits:
            found = await self._found(request, chosen.keys, look)
            if found is None and not self._waiting.closed:
                raise self._nothing(request)
        return found or Changes(revision=self._waiting.revision)

    # -- debug requests -----------------------------------------------------------------------------

    async def create_request(self, request: Request) -> Response:
        wanted = rights.new_request(caller(request.scope), await self._request.read(request))
        return answer(self._service.create_request(wanted, actor(request)), 201)

    async def list_requests(self, request: Request) -> Response:
        return answer(list(self._board.requests.values()))

    async def get_request(self, request: Request) -> Response:
        name = _id(request)

        def look(_: int = 0) -> DebugRequest | None:
            found = self._board.request(name)
            return found if found.status.debug_attachment_ref else None

        if not self._waits(request):
            return answer(self._board.request(name))
        return answer(look() or await self._wait(request, [("request", name)], look))

    async def renew_request(self, request: Request) -> Response:
        self._check_request(request)
        return answer(self._service.renew_request(_id(request)))

    async def delete_request(self, request: Request) -> Response:
        self._check_request(request)
        self._service.delete_request(_id(request), actor(request))
        return Response()

    # -- tickets ------------------------------------------------------------------------------------

    async def create_ticket(self, request: Request) -> Response:
        principal = caller(request.scope)
        wish = rights.new_ticket(principal, await self._ticket.read(request))
        if wish.request and (asked := self._board.requests.get(wish.request)):
            rights.check_owner(principal, asked.spec.owner, f"debug request {asked.name}")
        return answer(self._service.create_ticket(wish, actor(request)), 201, PRIVATE)

    async def ticket_keys(self, request: Request) -> Response:
        return answer(self._service.tickets.keys())

    async def rotate_ticket_keys(self, request: Request) -> Response:
        return answer(self._service.rotate_ticket_keys(actor(request), revoke=query.flag(request, "revoke")))

    # -- what runs ----------------------------------------------------------------------------------

    async def watch_triggers(self, request: Request) -> Response:
        place = await self._service.place(query.facts(request, ("pod", "namespace", "container")))
        rights.check_namespace(caller(request.scope), place.namespace)
        since = request.query_params.get("since")

        def look(_: int = 0) -> Wishes | None:
            now = self._service.wishes(place)
            return now if now.revision != since else None

        if not self._waits(request):
            return answer(self._service.wishes(place))
        keys = [("trigger", key) for key in place.known_as]
        return answer(look() or await self._wait(request, keys, look))

    async def list_containers(self, request: Request) -> Response:
        return answer(await self._service.containers(query.facts(request, ("image", "pod", "namespace"))))

    # -- about the coordinator itself ---------------------------------------------------------------

    async def about(self, request: Request) -> Response:
        try:
            self._service.check_ready()
            fault = None
        except ApiError as error:
            fault = error.message
        return answer(replace(self._about, store_fault=fault))

    async def healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(self, request: Request) -> Response:
        self._service.check_ready()
        return PlainTextResponse("ready\n")

    async def metrics(self, request: Request) -> Response:
        return Response(self._service.metrics.render(), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        return Response(self._document, media_type="application/json")

    def unknown(self, request: Request, error: Exception) -> Response:
        """There is no such path."""
        self._service.metrics.answered(request.method, "other", "404")
        return refusal(ApiError(404, Reason.NOT_FOUND, f"there is no path {request.url.path[:100]!r}"))

    def fault(self, request: Request, error: Exception) -> Response:
        """A fault of ours; the server logs it."""
        return refusal(
            ApiError(500, Reason.INTERNAL, f"{type(error).__name__} in {request.method} {request.url.path[:100]}")
        )

    @cached_property
    def _document(self) -> bytes:
        return document()

    # -- whose it is --------------------------------------------------------------------------------

    def _check_attachment(self, request: Request) -> None:
        # What is not there is of nobody; whoever asks is told so, or that it is gone.
        if found := self._board.attachments.get(_id(request)):
            rights.check_owner(caller(request.scope), found.spec.owner, f"debug attachment {found.name}")

    def _check_request(self, request: Request) -> None:
        if found := self._board.requests.get(_id(request)):
            rights.check_owner(caller(request.scope), found.spec.owner, f"debug request {found.name}")

    # -- waiting ------------------------------------------------------------------------------------

    def _waits(self, request: Request) -> bool:
        query.seconds(request, self._max_wait)
        return query.waits(request)

    async def _wait(self, request: Request, keys: Iterable[Key], look: Callable[[int], T | None]) -> T:
        found = await self._found(request, keys, look)
        if found is None:
            raise self._nothing(request)
        return found

    async def _found(self, request: Request, keys: Iterable[Key], look: Callable[[int], T | None]) -> T | None:
        seconds = query.seconds(request, self._max_wait)
        principal = caller(request.scope)
        with self._access.in_use(principal) as revoked:
            ends = _hung_up(request.receive) if principal.token is None else _ended(request.receive, revoked)
            client = spawn(ends, "client of a long poll")
            try:
                found = await self._waiting.wait(keys, look, seconds, client)
            finally:
                client.cancel()
        if revoked.is_set():
            raise ApiError(401, Reason.TOKEN_REVOKED, "the token was revoked meanwhile")
        if found is None and client.done():
            raise ClientGoneError
        return found

    def _nothing(self, request: Request) -> ApiError:
        if self._waiting.closed:
            return ApiError(408, Reason.STOPPING)
        seconds = query.seconds(request, self._max_wait)
        return ApiError(408, Reason.WAIT_TIMEOUT, f"nothing matched within {seconds:g} s")


async def _hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(receive: Receive, revoked: asyncio.Event) -> None:
    """Until the client is gone, or its token is revoked."""
    ends = {spawn(_hung_up(receive), "client that waits"), spawn(revoked.wait(), "revocation")}
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()


def _id(request: Request) -> str:
    name: str = request.path_params["id"]
    return name


def _shallow(value: Any, levels: int) -> bool:
    if isinstance(value, dict):
        return levels > 0 and all(_shallow(inner, levels - 1) for inner in value.values())
    if isinstance(value, list):
        return levels > 0 and all(_shallow(inner, levels - 1) for inner in value)
    return True

"""Between ASGI and the API: bodies in, answers out, every refusal as JSON, and no redirects."""

import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from coordinator.access import SUBJECT, Access
from coordinator.metrics import Metrics
from coordinator.rights import check_role, check_tunnel
from coordinator.trail import UNKNOWN
from squash.access import Role
from squash.calls import ACTOR
from squash.errors import ApiError
from squash.model import LONGEST_TEXT, Refusal
from squash.reasons import Reason
from squash.unfit import in_words

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]


class Method(NamedTuple):
    """What answers one method of a path. `roles` may call it; None: everybody, without a token."""

    handler: Handler
    roles: frozenset[Role] | None
    tunnel: bool = False
    """It wants a token for the tunnel of the attachment that the path names."""


_JSON = "application/json"
PRIVATE = {"cache-control": "no-store"}
"""Headers of an answer that holds a secret."""
_NULLABLE_DEPTH = 2
_SHOWN = 100
_encode = msgspec.json.Encoder().encode


class ClientGoneError(Exception):
    """Whoever asked has hung up: there is nobody to answer."""


class Resource:
    """The ASGI application of one path: `methods` by their names. HEAD and OPTIONS come by themselves.

    Nothing is answered, and no body is read, before it is known who calls and that the role may.
    """

    def __init__(self, route: str, methods: Mapping[str, Method], metrics: Metrics, access: Access) -> None:
        self._route = route
        self._access = access
        self._open = all(method.roles is None for method in methods.values())
        self._methods = dict(methods)
        if "GET" in methods:
            self._methods["HEAD"] = methods["GET"]
        self._allow = ", ".join(sorted((*self._methods, "OPTIONS")))
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        code = "500"
        try:
            response = await self._answer(Request(scope, receive))
            code = str(response.status_code)
            await response(scope, receive, send)
        except ClientGoneError:
            code = "gone"
        finally:
            self._metrics.answered(scope["method"], self._route, code)

    async def _answer(self, request: Request) -> Response:
        if page := _page(request.scope):
            message = f"the call comes from a web page ({page})"
            return refusal(ApiError(403, Reason.FOREIGN_ORIGIN, message))
        if self._access.local is not None and (name := _other_name(request.scope, self._access.local)):
            message = f"the call is for the host {name!r}; this coordinator answers for {self._access.local} only"
            return refusal(ApiError(403, Reason.FOREIGN_ORIGIN, message))
        try:
            method = self._admitted(request)
            if method:
                return await method.handler(request)
        except ApiError as error:
            return refusal(error)
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": self._allow})
        message = f"{self._route} answers {self._allow}, not {request.method[:20]}"
        return refusal(ApiError(405, Reason.METHOD_NOT_ALLOWED, message), {"allow": self._allow})

    def _admitted(self, request: Request) -> Method | None:
        """What answers the call; None when nothing does. Raises ApiError 401, 403."""
        method = self._methods.get(request.method)
        if not self._open:
            principal = self._access.authenticate(request.scope)
            if method and method.tunnel:
                check_tunnel(principal, request.path_params["id"])
            elif method and method.roles is not None:
                check_role(principal, method.roles, f"{request.method} {self._route}")
        return method


class Body(Generic[T]):
    """A JSON body of one type, of at most `limit` bytes."""

    def __init__(self, wanted: type[T], limit: int) -> None:
        self._wanted = wanted
        self._limit = limit
        self._decoder = msgspec.json.Decoder(wanted)

    async def read(self, request: Request) -> T:
        """Raises ApiError: 413 too large, 400 no JSON, 422 not of the type; ClientGoneError."""
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._limit:
            raise self._too_large()
        raw = bytearray()
        try:
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > self._limit:
                    raise self._too_large()
        except ClientDisconnect as error:
            raise ClientGoneError from error
        return self._decode(bytes(raw))

    def _decode(self, raw: bytes) -> T:
        try:
            return self._decoder.decode(raw)
        except msgspec.ValidationError as error:
            return self._without_nulls(raw, error)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _malformed(error) from error
        except RecursionError as error:
            raise ApiError(422, Reason.INVALID, "the body is nested too deeply") from error

    def _without_nulls(self, raw: bytes, first: msgspec.ValidationError) -> T:
        """A null means the same as an absent field, also where the type has no null."""
        try:
            value = msgspec.json.decode(raw)
            stripped = _strip(value, _NULLABLE_DEPTH)
            if stripped == value:
                raise ApiError(422, Reason.INVALID, in_words(first)) from first
            return msgspec.convert(stripped, self._wanted)
        except msgspec.ValidationError as error:
            raise ApiError(422, Reason.INVALID, in_words(error)) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _malformed(error) from error
        except RecursionError as error:
            raise ApiError(422, Reason.INVALID, "the body is nested too deeply") from error

    def _too_large(self) -> ApiError:
        return ApiError(413, Reason.TOO_LARGE, f"the body is larger than {self._limit} bytes")


def _page(scope: Scope) -> str | None:
    """What tells that a browser makes this call on behalf of a page; ours is no API for pages.

    A call that a page may make without asking first would otherwise reach a coordinator on the loopback interface.
    """
    for name, value in scope["headers"]:
        if name == b"origin" or (name == b"sec-fetch-site" and value not in (b"none", b"same-origin")):
            return f"{name.decode()}: {value[:_SHOWN].decode('latin-1')!r}"
    return None


def _other_name(scope: Scope, own: str) -> str | None:
    """The host that the call is for, unless that is `own`, localhost or an address.

    A page may let its own name lead to the loopback interface; what it asks then is no foreign call to its browser.
    """
    told = next((value for key, value in scope["headers"] if key == b"host"), b"").decode("latin-1")
    host = told[1:].partition("]")[0] if told.startswith("[") else told.partition(":")[0]
    if host.lower() in ("", "localhost", own.lower()):
        return None
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host[:_SHOWN]
    return None


def actor(request: Request) -> str:
    """Who makes the call: whom authentication found, else whoever it says it is."""
    subject = request.scope.get(SUBJECT)
    told = str(subject) if subject else request.headers.get(ACTOR, "")
    return told[:LONGEST_TEXT] if told.isprintable() and told else UNKNOWN


def answer(value: Any, code: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(_encode(value), code, headers, media_type=_JSON)


def refusal(error: ApiError, headers: Mapping[str, str] | None = None) -> Response:
    if error.code == 401:
        headers = {"www-authenticate": "Bearer"} | dict(headers or {})
    body = Refusal(code=error.code, reason=error.reason, message=error.message, remedy=error.reason.remedy)
    return Response(_encode(body), error.code, headers, media_type=_JSON)


def _malformed(error: Exception) -> ApiError:
    return ApiError(400, Reason.MALFORMED, f"the body is not JSON: {error}")


def _strip(value: Any, depth: int) -> Any:
    if not isinstance(value, dict) or depth == 0:
        return value
    return {key: _strip(inner, depth - 1) for key, inner in value.items() if inner is not None}

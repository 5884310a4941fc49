"""The REST API from the client's side: a `Call` says what to ask, `Client` and `AsyncClient` ask it.

    with Client(url) as client:
        request = client.send(create_request(DebugRequest(spec=RequestSpec(image="demo/pricing", debugger=""))))

Raises `ApiError` when the coordinator refuses, `UnreachableError` when it does not answer or not in our words.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from squash.errors import ApiError, SettingError, UnreachableError
from squash.model import (
    AttachmentPatch,
    Changes,
    DebugAttachment,
    DebugRequest,
    Metadata,
    Refusal,
    State,
    StatusPatch,
)
from squash.reasons import Reason

BASE = "/api/v2"
T = TypeVar("T")
_encode = msgspec.json.Encoder().encode
GRACE = 5.0
"""Seconds that an answer may be late beyond the time to wait that was asked for."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request to the coordinator and the type of its answer. `wait` is the length of a long poll in seconds."""

    method: str
    path: str
    answer: type[T]
    body: bytes | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    wait: float | None = None

    @property
    def headers(self) -> dict[str, str]:
        headers = {"content-type": "application/json"} if self.body is not None else {}
        return headers | ({"x-timeout": f"{self.wait:.3f}"} if self.wait is not None else {})


def create_attachment(attachment: DebugAttachment) -> Call[DebugAttachment]:
    return Call("POST", f"{BASE}/debugattachment", DebugAttachment, _encode(attachment))


def get_attachment(name: str, *, wait: float | None = None) -> Call[DebugAttachment]:
    """With `wait`, answers when the attachment is attached or in error."""
    return Call("GET", _path("debugattachment", name), DebugAttachment, params=_waiting(wait), wait=wait)


def list_attachments(
    *,
    node: str | None = None,
    states: Iterable[State] = (),
    names: Iterable[str] = (),
    wait: float | None = None,
) -> Call[list[DebugAttachment]]:
    """With `wait`, answers as soon as the filtered list is not empty."""
    params = _filters(node=node, states=",".join(states), names=",".join(names)) | _waiting(wait)
    return Call("GET", f"{BASE}/debugattachment", list[DebugAttachment], params=params, wait=wait)


def patch_attachment(name: str, status: StatusPatch) -> Call[DebugAttachment]:
    body = _encode(AttachmentPatch(metadata=Metadata(name=name), status=status))
    return Call("PATCH", _path("debugattachment", name), DebugAttachment, body)


def delete_attachment(name: str) -> Call[None]:
    return Call("DELETE", _path("debugattachment", name), type(None))


def release_attachment(name: str) -> Call[DebugAttachment]:
    """Lets the held request go without a debugger."""
    return Call("POST", _path("debugattachment", name) + "/release", DebugAttachment)


def create_request(request: DebugRequest) -> Call[DebugRequest]:
    return Call("POST", f"{BASE}/debugrequest", DebugRequest, _encode(request))


def get_request(name: str, *, wait: float | None = None) -> Call[DebugRequest]:
    """With `wait`, answers when the request is matched."""
    return Call("GET", _path("debugrequest", name), DebugRequest, params=_waiting(wait), wait=wait)


def list_requests() -> Call[list[DebugRequest]]:
    return Call("GET", f"{BASE}/debugrequest", list[DebugRequest])


def delete_request(name: str) -> Call[None]:
    return Call("DELETE", _path("debugrequest", name), type(None))


def changes(
    *,
    since: str = "",
    node: str | None = None,
    holder: str | None = None,
    states: Iterable[State] = (),
    wait: float | None = None,
) -> Call[Changes]:
    """Attachments that changed after revision `since` (all of them when it is empty or forgotten)."""
    params = _filters(since=since, node=node, holder=holder, states=",".join(states)) | _waiting(wait)
    return Call("GET", f"{BASE}/changes", Changes, params=params, wait=wait)


def _path(kind: str, name: str) -> str:
    return f"{BASE}/{kind}/{quote(name, safe='')}"


def _filters(**given: str | None) -> dict[str, str]:
    return {key: value for key, value in given.items() if value}


def _waiting(wait: float | None) -> dict[str, str]:
    return {"wait": "true"} if wait is not None else {}


class _Transport:
    """What both clients share: how a call becomes a request, and an answer a value or an error."""

    def __init__(self, url: str, timeout: float) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        if not self.url.startswith(("http://", "https://")):
            raise SettingError(f"server_url = {url!r} cannot be used: expected http://HOST:PORT or https://HOST:PORT")

    def _arguments(self, call: Call[Any]) -> dict[str, Any]:
        late = self._timeout if call.wait is None else call.wait + GRACE
        return {
            "method": call.method,
            "url": self.url + call.path,
            "params": call.params,
            "content": call.body,
            "headers": call.headers,
            "timeout": httpx.Timeout(late, connect=self._timeout),
        }

    def _unreachable(self, error: httpx.HTTPError | httpx.InvalidURL) -> UnreachableError:
        what = "did not answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or repr(error)
        return UnreachableError(f"{self.url}: {what}")

    def _decode(self, call: Call[T], answer: httpx.Response) -> T:
        if answer.is_success:
            try:
                return (
                    msgspec.json.decode(answer.content, type=call.answer)
                    if answer.content
                    else msgspec.convert(None, call.answer)
                )
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ApiError(
                    answer.status_code,
                    Reason.COORDINATOR_REFUSED,
                    f"{self.url}{call.path} answered what is no {call.answer}: {error}",
                ) from error
        try:
            refusal = msgspec.json.decode(answer.content, type=Refusal)
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = f"{self.url}{call.path} answered {answer.status_code}: {answer.text[:200]}"
            raise ApiError(answer.status_code, Reason.COORDINATOR_REFUSED, message) from None
        raise ApiError(answer.status_code, refusal.reason, refusal.message)


class Client(_Transport):
    """For the command line, scripts and tests. `timeout` in seconds, for calls that do not wait."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        super().__init__(url, timeout)
        self._http = httpx.Client(trust_env=False)

    def send(self, call: Call[T]) -> T:
        try:
            answer = self._http.request(**self._arguments(call))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        return self._decode(call, answer)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient(_Transport):
    """For the agent and the sidecar. `timeout` in seconds, for calls that do not wait."""

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        super().__init__(url, timeout)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._http = httpx.AsyncClient(trust_env=False, limits=limits)

    async def send(self, call: Call[T], timeout: float | None = None) -> T:
        """`timeout` overrides the client's for this call."""
        arguments = self._arguments(call)
        if timeout is not None:
            arguments["timeout"] = httpx.Timeout(timeout)
        try:
            answer = await self._http.request(**arguments)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        return self._decode(call, answer)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

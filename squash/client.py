"""The REST API from the client's side: a `Call` says what to ask, `Client` and `AsyncClient` ask it.

    with Client(url) as client:
        request = client.send(create_request(DebugRequest(spec=RequestSpec(image="demo/pricing", debugger=""))))

Raises `ApiError` when the coordinator refuses, `UnreachableError` when it does not answer or not in our words.
"""

from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from squash import server_url
from squash.calls import (
    ACTOR,
    BASE,
    Call,
    about,
    add_audit,
    changes,
    create_attachment,
    create_request,
    decode,
    delete_attachment,
    delete_request,
    detach_attachment,
    document,
    get_attachment,
    get_request,
    give_up_agent,
    list_agents,
    list_attachments,
    list_audit,
    list_containers,
    list_requests,
    list_sightings,
    patch_attachment,
    ready_attachment,
    release_attachment,
    renew_agent,
    renew_attachment,
    renew_request,
)
from squash.credentials import Credentials, anonymous
from squash.errors import UnreachableError

__all__ = [
    "BASE",
    "AsyncClient",
    "Call",
    "Client",
    "about",
    "add_audit",
    "changes",
    "create_attachment",
    "create_request",
    "delete_attachment",
    "delete_request",
    "detach_attachment",
    "document",
    "get_attachment",
    "get_request",
    "give_up_agent",
    "list_agents",
    "list_attachments",
    "list_audit",
    "list_containers",
    "list_requests",
    "list_sightings",
    "patch_attachment",
    "ready_attachment",
    "release_attachment",
    "renew_agent",
    "renew_attachment",
    "renew_request",
]

T = TypeVar("T")
GRACE = 5.0
"""Seconds that an answer may be late beyond the time to wait that was asked for."""


class _Transport:
    """What both clients share: how a call becomes a request, and an answer a value or an error."""

    def __init__(self, url: str, timeout: float, credentials: Credentials | None, actor: str) -> None:
        self._actor = {ACTOR: actor} if actor else {}
        self.url = url.rstrip("/")
        self._timeout = timeout
        _check(url)
        self.credentials = credentials or anonymous(url)

    def _arguments(self, call: Call[Any]) -> dict[str, Any]:
        self.credentials.context()
        late = self._timeout if call.wait is None else call.wait + GRACE
        return {
            "method": call.method,
            "url": self.url + call.path,
            "params": call.params,
            "content": call.body,
            "headers": call.headers | self.credentials.headers() | self._actor,
            "timeout": httpx.Timeout(late, connect=self._timeout),
        }

    def _unreachable(self, error: httpx.HTTPError | httpx.InvalidURL) -> UnreachableError:
        what = "did not answer in time" if isinstance(error, httpx.TimeoutException) else str(error) or repr(error)
        return UnreachableError(f"{self.url}: {what}")

    def _decode(self, call: Call[T], answer: httpx.Response) -> T:
        return decode(call, self.url, answer.status_code, answer.content)


def _check(url: str) -> None:
    """Raises SettingError for what can be no URL of a coordinator."""
    server_url.split(url)
    try:
        httpx.URL(url)
    except httpx.InvalidURL as error:
        raise server_url.unusable(url, str(error)) from error


class Client(_Transport):
    """For the command line, scripts and tests. `timeout` in seconds, for calls that do not wait.

    `actor` is who calls, for the audit trail.
    """

    def __init__(
        self, url: str, timeout: float = 10.0, credentials: Credentials | None = None, actor: str = ""
    ) -> None:
        super().__init__(url, timeout, credentials, actor)
        self._http = httpx.Client(trust_env=False, verify=self.credentials.context() or True)

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
    """For what does several things at once: the agent, the sidecar, a debugging session. As `Client`."""

    def __init__(
        self, url: str, timeout: float = 10.0, credentials: Credentials | None = None, actor: str = ""
    ) -> None:
        super().__init__(url, timeout, credentials, actor)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._http = httpx.AsyncClient(trust_env=False, limits=limits, verify=self.credentials.context() or True)

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

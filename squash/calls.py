"""The calls of the REST API as values: what to send, and what type the answer has. No transport in here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import quote

import msgspec

from squash.access import IssuedToken, Token, TokenWish, TunnelWish
from squash.errors import ApiError
from squash.model import (
    Action,
    Agent,
    AttachmentPatch,
    AuditEntry,
    Changes,
    Container,
    Coordinator,
    DebugAttachment,
    DebugRequest,
    Metadata,
    Refusal,
    Sighting,
    State,
    StatusPatch,
    Struct,
    Wishes,
)
from squash.reasons import Reason
from squash.ticket import IssuedTicket, KeySet, TicketWish

BASE = "/api/v2"
ACTOR = "x-squash-actor"
"""The header by which a client says who it is, as `user@host`; with authentication its token says so instead."""
T = TypeVar("T")
_encode = msgspec.json.Encoder().encode


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


class About(Struct, frozen=True, kw_only=True):
    """`info` of the coordinator's OpenAPI document."""

    version: str


class Document(Struct, frozen=True, kw_only=True):
    """The coordinator's OpenAPI document, as far as a client wants to know it."""

    info: About


def document() -> Call[Document]:
    return Call("GET", "/openapi.json", Document)


def about() -> Call[Coordinator]:
    """What the coordinator tells of itself."""
    return Call("GET", f"{BASE}/about", Coordinator)


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


def detach_attachment(name: str) -> Call[DebugAttachment]:
    """Takes the debugger out, and lets go what is held; the object stays to be looked at."""
    return Call("POST", _path("debugattachment", name) + "/detach", DebugAttachment)


def ready_attachment(name: str) -> Call[DebugAttachment]:
    """Says by hand that everything is ready: the held request goes on to its debugger."""
    return Call("POST", _path("debugattachment", name) + "/ready", DebugAttachment)


def renew_attachment(name: str) -> Call[DebugAttachment]:
    """Whoever made the debug attachment is still there; see `AttachmentSpec.lease`."""
    return Call("POST", _path("debugattachment", name) + "/renew", DebugAttachment)


def create_request(request: DebugRequest) -> Call[DebugRequest]:
    return Call("POST", f"{BASE}/debugrequest", DebugRequest, _encode(request))


def get_request(name: str, *, wait: float | None = None) -> Call[DebugRequest]:
    """With `wait`, answers when the request is matched."""
    return Call("GET", _path("debugrequest", name), DebugRequest, params=_waiting(wait), wait=wait)


def list_requests() -> Call[list[DebugRequest]]:
    return Call("GET", f"{BASE}/debugrequest", list[DebugRequest])


def renew_request(name: str) -> Call[DebugRequest]:
    """Whoever made the debug request is still there; see `RequestSpec.lease`."""
    return Call("POST", _path("debugrequest", name) + "/renew", DebugRequest)


def delete_request(name: str) -> Call[None]:
    return Call("DELETE", _path("debugrequest", name), type(None))


def list_containers(
    *, image: str | None = None, pod: str | None = None, namespace: str | None = None
) -> Call[list[Container]]:
    """The containers that the platform knows."""
    params = _filters(image=image, pod=pod, namespace=namespace)
    return Call("GET", f"{BASE}/container", list[Container], params=params)


def tunnel_token(name: str, *, read_only: bool = False) -> Call[IssuedToken]:
    """A token that opens a tunnel to this attachment's debug server, and does nothing else."""
    body = _encode(TunnelWish(read_only=read_only))
    return Call("POST", _path("debugattachment", name) + "/token", IssuedToken, body)


def create_token(wish: TokenWish) -> Call[IssuedToken]:
    """The answer alone has the secret: the coordinator keeps none."""
    return Call("POST", f"{BASE}/token", IssuedToken, _encode(wish))


def list_tokens() -> Call[list[Token]]:
    return Call("GET", f"{BASE}/token", list[Token])


def revoke_token(name: str) -> Call[Token]:
    return Call("DELETE", _path("token", name), Token)


def create_ticket(wish: TicketWish) -> Call[IssuedTicket]:
    return Call("POST", f"{BASE}/ticket", IssuedTicket, _encode(wish))


def ticket_keys() -> Call[KeySet]:
    """The public keys that verify tickets."""
    return Call("GET", f"{BASE}/ticket/keys", KeySet)


def rotate_ticket_keys(*, revoke: bool = False) -> Call[KeySet]:
    """New tickets are signed with a new key. With `revoke` the earlier ones are not valid any more."""
    params = {"revoke": "true"} if revoke else {}
    return Call("POST", f"{BASE}/ticket/keys/rotate", KeySet, params=params)


def changes(
    *,
    since: str = "",
    node: str | None = None,
    holder: str | None = None,
    states: Iterable[State] = (),
    names: Iterable[str] = (),
    wait: float | None = None,
) -> Call[Changes]:
    """Attachments that changed after revision `since` (all of them when it is empty or forgotten)."""
    filters = _filters(since=since, node=node, holder=holder, states=",".join(states), names=",".join(names))
    params = filters | _waiting(wait)
    return Call("GET", f"{BASE}/changes", Changes, params=params, wait=wait)


def renew_agent(agent: Agent) -> Call[Agent]:
    """The agent is there, and will be heard of again before its `ttl` is over."""
    return Call("PUT", _path("agent", agent.name), Agent, _encode(agent))


def give_up_agent(name: str) -> Call[None]:
    """The agent goes."""
    return Call("DELETE", _path("agent", name), type(None))


def list_agents() -> Call[list[Agent]]:
    """Also those that were lost within the last hour."""
    return Call("GET", f"{BASE}/agent", list[Agent])


def list_audit(
    *,
    attachment: str | None = None,
    actor: str | None = None,
    action: Action | None = None,
    since: float | None = None,
    limit: int | None = None,
) -> Call[list[AuditEntry]]:
    """The newest `limit` entries that fit, the oldest of them first; `since` in unix seconds."""
    params = _filters(
        attachment=attachment,
        actor=actor,
        action=action,
        since=None if since is None else f"{since:.6f}",
        limit=None if limit is None else str(limit),
    )
    return Call("GET", f"{BASE}/audit", list[AuditEntry], params=params)


def add_audit(entries: Iterable[AuditEntry]) -> Call[None]:
    """What an agent saw."""
    return Call("POST", f"{BASE}/audit", type(None), _encode(list(entries)))


def list_sightings(*, trace: str | None = None, limit: int | None = None) -> Call[list[Sighting]]:
    """The newest first. `trace` is a trace id, a whole `traceparent`, or an `x-request-id`."""
    params = _filters(trace=trace, limit=None if limit is None else str(limit))
    return Call("GET", f"{BASE}/sighting", list[Sighting], params=params)


def wishes(where: Mapping[str, str], *, since: str = "", wait: float | None = None) -> Call[Wishes]:
    """The pending debug requests with a trigger that fit the container `where` (`pod`, `namespace`, `container`).

    With `wait`, answers when they are no longer those of revision `since`.
    """
    params = _filters(**where, since=since) | _waiting(wait)
    return Call("GET", f"{BASE}/trigger", Wishes, params=params, wait=wait)


def _path(kind: str, name: str) -> str:
    return f"{BASE}/{kind}/{quote(name, safe='')}"


def _filters(**given: str | None) -> dict[str, str]:
    return {key: value for key, value in given.items() if value}


def _waiting(wait: float | None) -> dict[str, str]:
    return {"wait": "true"} if wait is not None else {}


def decode(call: Call[T], where: str, code: int, content: bytes) -> T:
    """The value of an answer with status `code` from the server `where`. Raises ApiError unless it is a good one."""
    if 200 <= code < 300:
        try:
            return msgspec.json.decode(content, type=call.answer) if content else msgspec.convert(None, call.answer)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"{where}{call.path} answered what is no {call.answer}: {error}"
            raise ApiError(code, Reason.COORDINATOR_REFUSED, message) from error
    try:
        refusal = msgspec.json.decode(content, type=Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = content[:200].decode(errors="replace")
        raise ApiError(code, Reason.COORDINATOR_REFUSED, f"{where}{call.path} answered {code}: {text}") from None
    raise ApiError(code, refusal.reason, refusal.message)

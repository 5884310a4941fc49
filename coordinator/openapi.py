"""Every call of the API in one table: the routes are made from it, and the OpenAPI document (document.py)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from squash.access import IssuedToken, Role, Token, TokenWish, TunnelWish
from squash.calls import BASE
from squash.model import (
    Action,
    Agent,
    AttachmentPatch,
    AuditEntry,
    Changes,
    Container,
    DebugAttachment,
    DebugRequest,
    Sighting,
    State,
)
from squash.reasons import TICKET_REFUSALS, Reason
from squash.ticket import IssuedTicket, KeySet, TicketWish

ATTACHMENTS = f"{BASE}/debugattachment"
REQUESTS = f"{BASE}/debugrequest"
AGENTS = f"{BASE}/agent"
JSON = "application/json"


class Parameter(NamedTuple):
    name: str
    where: str
    """`path`, `query` or `header`."""
    schema: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Operation:
    """One call. `id` is the name of its handler, `answer` the type of what it answers in `media` (None: nothing)."""

    id: str
    method: str
    path: str
    text: str
    code: int = 200
    answer: Any = None
    media: str = JSON
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    refusals: Mapping[int, tuple[Reason, ...]] = field(default_factory=dict)
    roles: frozenset[Role] | None = frozenset()
    """Who may call it; an admin always may. None: everybody, without a token."""
    websocket: bool = False
    """Answered with 101 to a WebSocket's handshake, and otherwise with 426."""
    tunnel: bool = False
    """Takes tokens for that attachment's tunnel alone."""


_LOOKING = frozenset({Role.VIEWER, Role.DEVELOPER})
_DEVELOPER = frozenset({Role.DEVELOPER})
_AGENT = frozenset({Role.AGENT})
_EVERYBODY = frozenset(Role)

_text = {"type": "string"}
_number = {"type": "number", "minimum": 0}
_actions = {"type": "string", "enum": [action.value for action in Action]}
_texts = {"type": "array", "items": _text}
_states = {"type": "array", "items": {"type": "string", "enum": [state.value for state in State]}}
_flag = {"type": "boolean", "default": False}
_ID = Parameter("id", "path", _text, "The object's name")
_AGENT_ID = Parameter("id", "path", _text, "The agent's own name, that of `status.agent`")
_STREAM_ID = Parameter("id", "path", _text, "The stream, as the call on the line names it")
_TOKEN_ID = Parameter("id", "path", _text, "The token's id")
_NODE = Parameter("node", "query", _texts, "Only attachments of these nodes")
_HOLDER = Parameter("holder", "query", _text, "Only attachments of this sidecar")
_STATES = Parameter("states", "query", _states, "Only attachments in these states")
_STATE = Parameter("state", "query", _states, "The same as `states`")
_NAMES = Parameter("names", "query", _texts, "Only attachments of these names")
_SINCE = Parameter("since", "query", _text, "The revision of the answer before; empty or forgotten: everything")
_IMAGE = Parameter("image", "query", _text, "Only containers of this image")
_POD = Parameter("pod", "query", _text, "Only containers of this pod")
_NAMESPACE = Parameter("namespace", "query", _text, "Only containers of this namespace")
_LIMIT = Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 999_999_999}, "At most so many")
_WAITING = (
    Parameter("wait", "query", {"type": "boolean", "default": False}, "A long poll: answer as soon as there is news"),
    Parameter("X-Timeout", "header", {"type": "number", "minimum": 0}, "Seconds after which a long poll ends with 408"),
)

_MALFORMED = {413: (Reason.TOO_LARGE,), 422: (Reason.INVALID,)}
_POLL = {408: (Reason.WAIT_TIMEOUT, Reason.STOPPING), 422: (Reason.INVALID,)}
_UNKNOWN = {404: (Reason.NOT_FOUND,)}
_KEPT = {503: (Reason.STORE_UNAVAILABLE,)}

OPERATIONS = (
    Operation(
        "create_attachment",
        "POST",
        ATTACHMENTS,
        "Creates a debug attachment; with `match_request` only when a debug request waits for its image",
        201,
        DebugAttachment,
        body=DebugAttachment,
        refusals=_MALFORMED
        | _KEPT
        | {
            400: (Reason.MALFORMED, Reason.IMAGE_MISMATCH),
            403: TICKET_REFUSALS,
            404: (Reason.CONTAINER_NOT_FOUND, Reason.CONTAINER_AMBIGUOUS, Reason.NO_PENDING_REQUEST),
            409: (Reason.NAME_TAKEN,),
            429: (Reason.LIMIT_REACHED,),
        },
        roles=frozenset({Role.DEVELOPER, Role.FILTER}),
    ),
    Operation(
        "list_attachments",
        "GET",
        ATTACHMENTS,
        "Lists debug attachments; with `wait` as soon as the list is not empty",
        answer=list[DebugAttachment],
        parameters=(_NODE, _HOLDER, _STATE, _STATES, _NAMES, *_WAITING),
        refusals=_POLL,
        roles=_EVERYBODY,
    ),
    Operation(
        "release_attachment",
        "POST",
        f"{ATTACHMENTS}/{{id}}/release",
        "Lets the held request go without a debugger",
        answer=DebugAttachment,
        parameters=(_ID,),
        refusals=_UNKNOWN | _KEPT | {409: (Reason.ILLEGAL_STEP,)},
        roles=_DEVELOPER,
    ),
    Operation(
        "detach_attachment",
        "POST",
        f"{ATTACHMENTS}/{{id}}/detach",
        "Takes the debugger out and lets go what is held; the process runs on, the object stays to be looked at",
        answer=DebugAttachment,
        parameters=(_ID,),
        refusals=_UNKNOWN | _KEPT,
        roles=_DEVELOPER,
    ),
    Operation(
        "ready_attachment",
        "POST",
        f"{ATTACHMENTS}/{{id}}/ready",
        "Says by hand that the developer is ready: the held request goes on to its debugger",
        answer=DebugAttachment,
        parameters=(_ID,),
        refusals=_UNKNOWN | _KEPT | {409: (Reason.ILLEGAL_STEP,)},
        roles=_DEVELOPER,
    ),
    Operation(
        "get_attachment",
        "GET",
        f"{ATTACHMENTS}/{{id}}",
        "Shows a debug attachment; with `wait` when it is attached or in error",
        answer=DebugAttachment,
        parameters=(_ID, *_WAITING),
        refusals=_UNKNOWN | _POLL,
        roles=_EVERYBODY,
    ),
    Operation(
        "patch_attachment",
        "PATCH",
        f"{ATTACHMENTS}/{{id}}",
        "Reports how an attachment fares; its state and phase move forward only",
        answer=DebugAttachment,
        parameters=(_ID,),
        body=AttachmentPatch,
        refusals=_MALFORMED
        | _UNKNOWN
        | _KEPT
        | {400: (Reason.MALFORMED, Reason.NAME_MISMATCH), 409: (Reason.ILLEGAL_STEP,)},
        roles=frozenset({Role.AGENT, Role.FILTER}),
    ),
    Operation(
        "delete_attachment",
        "DELETE",
        f"{ATTACHMENTS}/{{id}}",
        "Removes an attachment; its debugger is detached and the process runs on",
        parameters=(_ID,),
        refusals=_KEPT,
        roles=_DEVELOPER,
    ),
    Operation(
        "watch_changes",
        "GET",
        f"{BASE}/changes",
        "What happened to attachments after a revision; with `wait` as soon as something did",
        answer=Changes,
        parameters=(_SINCE, _NODE, _HOLDER, _STATE, _STATES, _NAMES, *_WAITING),
        refusals=_POLL,
        roles=_EVERYBODY,
    ),
    Operation(
        "create_request",
        "POST",
        REQUESTS,
        "Asks for a debugger on the next marked request that reaches an image",
        201,
        DebugRequest,
        body=DebugRequest,
        refusals=_MALFORMED
        | _KEPT
        | {400: (Reason.MALFORMED,), 409: (Reason.NAME_TAKEN,), 429: (Reason.LIMIT_REACHED,)},
        roles=_DEVELOPER,
    ),
    Operation("list_requests", "GET", REQUESTS, "Lists debug requests", answer=list[DebugRequest], roles=_LOOKING),
    Operation(
        "renew_request",
        "POST",
        f"{REQUESTS}/{{id}}/renew",
        "Starts the lease of a debug request anew: whoever made it is still there",
        answer=DebugRequest,
        parameters=(_ID,),
        refusals=_UNKNOWN | _KEPT,
        roles=_DEVELOPER,
    ),
    Operation(
        "get_request",
        "GET",
        f"{REQUESTS}/{{id}}",
        "Shows a debug request; with `wait` when it is matched",
        answer=DebugRequest,
        parameters=(_ID, *_WAITING),
        refusals=_UNKNOWN | _POLL,
        roles=_LOOKING,
    ),
    Operation(
        "delete_request",
        "DELETE",
        f"{REQUESTS}/{{id}}",
        "Removes a debug request; whatever is held on its behalf is let go",
        parameters=(_ID,),
        refusals=_KEPT,
        roles=_DEVELOPER,
    ),
    Operation(
        "list_containers",
        "GET",
        f"{BASE}/container",
        "Lists the containers that the platform knows",
        answer=list[Container],
        parameters=(_IMAGE, _POD, _NAMESPACE),
        refusals={503: (Reason.RUNTIME_UNREACHABLE,)},
        roles=_LOOKING,
    ),
    Operation(
        "create_tunnel_token",
        "POST",
        f"{ATTACHMENTS}/{{id}}/token",
        "Makes a token that opens tunnels to this attachment's debug server for a minute, and does nothing else; "
        "for others than its owner a read-only one",
        201,
        IssuedToken,
        parameters=(_ID,),
        body=TunnelWish,
        refusals=_MALFORMED | _UNKNOWN | {400: (Reason.MALFORMED,), 429: (Reason.LIMIT_REACHED,)},
        roles=_LOOKING,
    ),
    Operation(
        "open_tunnel",
        "GET",
        f"{ATTACHMENTS}/{{id}}/tunnel",
        "A stream to the attachment's debug server; needs a token for this attachment alone",
        101,
        parameters=(
            _ID,
            Parameter("client", "query", _text, "Who connects; with a token its subject counts"),
            Parameter("takeover", "query", _flag, "The client that holds the session, if there is one, makes room"),
            Parameter("read_only", "query", _flag, "Look, but change nothing"),
        ),
        refusals=_UNKNOWN
        | {
            403: (Reason.TUNNEL_TOKEN, Reason.FROM_A_PAGE),
            409: (Reason.NOT_LISTENING,),
            422: (Reason.INVALID,),
            429: (Reason.LIMIT_REACHED,),
            503: (Reason.AGENT_AWAY,),
            504: (Reason.AGENT_AWAY,),
        },
        roles=_LOOKING,
        websocket=True,
        tunnel=True,
    ),
    Operation(
        "open_line",
        "GET",
        f"{BASE}/agent/{{id}}/line",
        "An agent's line, on which it is called for streams",
        101,
        parameters=(_AGENT_ID,),
        refusals={403: (Reason.NOT_YOURS, Reason.FROM_A_PAGE)},
        roles=_AGENT,
        websocket=True,
    ),
    Operation(
        "open_stream",
        "GET",
        f"{BASE}/stream/{{id}}",
        "The agent's end of a stream that it was called for",
        101,
        parameters=(_STREAM_ID,),
        refusals={403: (Reason.NOT_YOURS, Reason.FROM_A_PAGE)},
        roles=_AGENT,
        websocket=True,
    ),
    Operation(
        "create_token",
        "POST",
        f"{BASE}/token",
        "Makes a token; this answer alone has its secret",
        201,
        IssuedToken,
        body=TokenWish,
        refusals=_MALFORMED | _KEPT | {400: (Reason.MALFORMED,), 409: (Reason.NO_AUTHENTICATION,)},
    ),
    Operation("list_tokens", "GET", f"{BASE}/token", "Lists tokens, without their secrets", answer=list[Token]),
    Operation(
        "revoke_token",
        "DELETE",
        f"{BASE}/token/{{id}}",
        "Takes a token back at once; what was opened with it ends",
        answer=Token,
        parameters=(_TOKEN_ID,),
        refusals=_UNKNOWN | _KEPT,
    ),
    Operation(
        "healthz", "GET", "/healthz", "Whether the coordinator answers", answer=str, media="text/plain", roles=None
    ),
    Operation(
        "list_agents",
        "GET",
        AGENTS,
        "Lists agents with their nodes, also those that were lost within the last hour",
        answer=list[Agent],
        roles=_LOOKING,
    ),
    Operation(
        "renew_agent",
        "PUT",
        f"{AGENTS}/{{id}}",
        "An agent is there; when it does not say so again within its `ttl`, its attachments end with `agent_lost`",
        answer=Agent,
        parameters=(_ID,),
        body=Agent,
        refusals=_MALFORMED | _KEPT | {400: (Reason.MALFORMED, Reason.NAME_MISMATCH)},
        roles=_AGENT,
    ),
    Operation(
        "give_up_agent",
        "DELETE",
        f"{AGENTS}/{{id}}",
        "An agent goes; whatever it still has ends with `agent_lost`",
        parameters=(_ID,),
        refusals=_KEPT,
        roles=_AGENT,
    ),
    Operation(
        "list_audit",
        "GET",
        f"{BASE}/audit",
        "The audit trail: who did what; the newest entries that fit, the oldest of them first",
        answer=list[AuditEntry],
        parameters=(
            Parameter("attachment", "query", _text, "Only entries about this attachment"),
            Parameter("actor", "query", _text, "Only what this one did"),
            Parameter("action", "query", _actions, "Only this action"),
            Parameter("since", "query", _number, "Only entries from these unix seconds on"),
            _LIMIT,
        ),
        refusals={422: (Reason.INVALID,)} | _KEPT,
        roles=_LOOKING,
    ),
    Operation(
        "add_audit",
        "POST",
        f"{BASE}/audit",
        "Adds to the audit trail what an agent saw; no entry is ever changed",
        body=list[AuditEntry],
        refusals=_MALFORMED | _KEPT | {400: (Reason.MALFORMED,)},
        roles=_AGENT,
    ),
    Operation(
        "list_sightings",
        "GET",
        f"{BASE}/sighting",
        "The last marked requests that sidecars told of, held or not; the newest first",
        answer=list[Sighting],
        parameters=(
            Parameter("trace", "query", _text, "Only of this trace id, `traceparent` or `x-request-id`"),
            _LIMIT,
        ),
        refusals={422: (Reason.INVALID,)},
        roles=_LOOKING,
    ),
    Operation(
        "create_ticket",
        "POST",
        f"{BASE}/ticket",
        "Signs a ticket: a value of the mark for one developer, for some requests, for some time",
        201,
        IssuedTicket,
        body=TicketWish,
        refusals=_MALFORMED | _KEPT | {400: (Reason.MALFORMED,), 403: (Reason.TICKET_SCOPE,), 404: (Reason.NOT_FOUND,)},
        roles=_DEVELOPER,
    ),
    Operation(
        "ticket_keys",
        "GET",
        f"{BASE}/ticket/keys",
        "The public keys that verify tickets, a JWKS; the one that signs new tickets first",
        answer=KeySet,
        refusals=_KEPT,
        roles=_EVERYBODY,
    ),
    Operation(
        "rotate_ticket_keys",
        "POST",
        f"{BASE}/ticket/keys/rotate",
        "Signs tickets with a new key from now on; earlier keys are known until their tickets have expired",
        answer=KeySet,
        parameters=(
            Parameter("revoke", "query", {"type": "boolean", "default": False}, "Forget the earlier keys at once"),
        ),
        refusals=_KEPT | {422: (Reason.INVALID,)},
    ),
    Operation(
        "readyz",
        "GET",
        "/readyz",
        "Whether the coordinator can keep objects",
        answer=str,
        media="text/plain",
        refusals=_KEPT,
        roles=None,
    ),
    Operation("metrics", "GET", "/metrics", "For Prometheus", answer=str, media="text/plain", roles=_EVERYBODY),
    Operation("openapi", "GET", "/openapi.json", "This document", answer=dict[str, Any], roles=None),
)

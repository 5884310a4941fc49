"""Every call of the API in one table: the routes are made from it, and the OpenAPI document (document.py)."""

from typing import Any

from coordinator.access_calls import ABOUT_ACCESS
from coordinator.operation import (
    AGENT,
    ATTACHMENTS,
    DEVELOPER,
    EVERYBODY,
    ID,
    KEPT,
    LOOKING,
    MALFORMED,
    TEXT,
    UNKNOWN,
    Operation,
    Parameter,
)
from squash.access import Role
from squash.calls import BASE
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
    Sighting,
    State,
    Wishes,
)
from squash.reasons import TICKET_REFUSALS, Reason
from squash.ticket import IssuedTicket, KeySet, TicketWish

REQUESTS = f"{BASE}/debugrequest"
AGENTS = f"{BASE}/agent"


_number = {"type": "number", "minimum": 0}
_actions = {"type": "string", "enum": [action.value for action in Action]}
_texts = {"type": "array", "items": TEXT}
_states = {"type": "array", "items": {"type": "string", "enum": [state.value for state in State]}}
_NODE = Parameter("node", "query", _texts, "Only attachments of these nodes")
_HOLDER = Parameter("holder", "query", TEXT, "Only attachments of this sidecar")
_STATES = Parameter("states", "query", _states, "Only attachments in these states")
_STATE = Parameter("state", "query", _states, "The same as `states`")
_NAMES = Parameter("names", "query", _texts, "Only attachments of these names")
_SINCE = Parameter("since", "query", TEXT, "The revision of the answer before; empty or forgotten: everything")
_IMAGE = Parameter("image", "query", TEXT, "Only containers of this image")
_POD = Parameter("pod", "query", TEXT, "Only containers of this pod")
_NAMESPACE = Parameter("namespace", "query", TEXT, "Only containers of this namespace")
_LIMIT = Parameter("limit", "query", {"type": "integer", "minimum": 1, "maximum": 999_999_999}, "At most so many")
_CONTAINER = Parameter("container", "query", TEXT, "Only this container of the pod")
_WISHES_SINCE = Parameter("since", "query", TEXT, "The revision of the answer before; another one: answer at once")
_WAITING = (
    Parameter("wait", "query", {"type": "boolean", "default": False}, "A long poll: answer as soon as there is news"),
    Parameter("X-Timeout", "header", {"type": "number", "minimum": 0}, "Seconds after which a long poll ends with 408"),
)

_POLL = {408: (Reason.WAIT_TIMEOUT, Reason.STOPPING), 422: (Reason.INVALID,)}

OPERATIONS = (
    Operation(
        "create_attachment",
        "POST",
        ATTACHMENTS,
        "Creates a debug attachment; with `match_request` only when a debug request waits for its image",
        201,
        DebugAttachment,
        body=DebugAttachment,
        refusals=MALFORMED
        | KEPT
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
        roles=EVERYBODY,
    ),
    Operation(
        "release_attachment",
        "POST",
        f"{ATTACHMENTS}/{{id}}/release",
        "Lets the held request go without a debugger",
        answer=DebugAttachment,
        parameters=(ID,),
        refusals=UNKNOWN | KEPT | {409: (Reason.ILLEGAL_STEP,)},
        roles=DEVELOPER,
    ),
    Operation(
        "detach_attachment",
        "POST",
        f"{ATTACHMENTS}/{{id}}/detach",
        "Takes the debugger out and lets go what is held; the process runs on, the object stays to be looked at",
        answer=DebugAttachment,
        parameters=(ID,),
        refusals=UNKNOWN | KEPT,
        roles=DEVELOPER,
    ),
    Operation(
        "ready_attachment",
        "POST",
        f"{ATTACHMENTS}/{{id}}/ready",
        "Says by hand that the developer is ready: the held request goes on to its debugger",
        answer=DebugAttachment,
        parameters=(ID,),
        refusals=UNKNOWN | KEPT | {409: (Reason.ILLEGAL_STEP,)},
        roles=DEVELOPER,
    ),
    Operation(
        "renew_attachment",
        "POST",
        f"{ATTACHMENTS}/{{id}}/renew",
        "Starts the lease of a debug attachment anew: whoever made it is still there",
        answer=DebugAttachment,
        parameters=(ID,),
        refusals=UNKNOWN | KEPT,
        roles=DEVELOPER,
    ),
    Operation(
        "get_attachment",
        "GET",
        f"{ATTACHMENTS}/{{id}}",
        "Shows a debug attachment; with `wait` when it is attached or in error",
        answer=DebugAttachment,
        parameters=(ID, *_WAITING),
        refusals=UNKNOWN | _POLL,
        roles=EVERYBODY,
    ),
    Operation(
        "patch_attachment",
        "PATCH",
        f"{ATTACHMENTS}/{{id}}",
        "Reports how an attachment fares; its state and phase move forward only",
        answer=DebugAttachment,
        parameters=(ID,),
        body=AttachmentPatch,
        refusals=MALFORMED
        | UNKNOWN
        | KEPT
        | {400: (Reason.MALFORMED, Reason.NAME_MISMATCH), 409: (Reason.ILLEGAL_STEP,)},
        roles=frozenset({Role.AGENT, Role.FILTER}),
    ),
    Operation(
        "delete_attachment",
        "DELETE",
        f"{ATTACHMENTS}/{{id}}",
        "Removes an attachment; its debugger is detached and the process runs on",
        parameters=(ID,),
        refusals=KEPT,
        roles=DEVELOPER,
    ),
    Operation(
        "watch_changes",
        "GET",
        f"{BASE}/changes",
        "What happened to attachments after a revision; with `wait` as soon as something did",
        answer=Changes,
        parameters=(_SINCE, _NODE, _HOLDER, _STATE, _STATES, _NAMES, *_WAITING),
        refusals=_POLL,
        roles=EVERYBODY,
    ),
    Operation(
        "create_request",
        "POST",
        REQUESTS,
        "Asks for a debugger on the next marked request that reaches an image",
        201,
        DebugRequest,
        body=DebugRequest,
        refusals=MALFORMED | KEPT | {400: (Reason.MALFORMED,), 409: (Reason.NAME_TAKEN,), 429: (Reason.LIMIT_REACHED,)},
        roles=DEVELOPER,
    ),
    Operation("list_requests", "GET", REQUESTS, "Lists debug requests", answer=list[DebugRequest], roles=LOOKING),
    Operation(
        "renew_request",
        "POST",
        f"{REQUESTS}/{{id}}/renew",
        "Starts the lease of a debug request anew: whoever made it is still there",
        answer=DebugRequest,
        parameters=(ID,),
        refusals=UNKNOWN | KEPT,
        roles=DEVELOPER,
    ),
    Operation(
        "get_request",
        "GET",
        f"{REQUESTS}/{{id}}",
        "Shows a debug request; with `wait` when it is matched",
        answer=DebugRequest,
        parameters=(ID, *_WAITING),
        refusals=UNKNOWN | _POLL,
        roles=LOOKING,
    ),
    Operation(
        "delete_request",
        "DELETE",
        f"{REQUESTS}/{{id}}",
        "Removes a debug request; whatever is held on its behalf is let go",
        parameters=(ID,),
        refusals=KEPT,
        roles=DEVELOPER,
    ),
    Operation(
        "watch_triggers",
        "GET",
        f"{BASE}/trigger",
        "The pending debug requests with a trigger that fit a container; with `wait` when they are others",
        answer=Wishes,
        parameters=(_POD, _NAMESPACE, _CONTAINER, _WISHES_SINCE, *_WAITING),
        refusals=_POLL | {404: (Reason.CONTAINER_NOT_FOUND, Reason.CONTAINER_AMBIGUOUS)},
        roles=frozenset({Role.FILTER}),
    ),
    Operation(
        "list_containers",
        "GET",
        f"{BASE}/container",
        "Lists the containers that the platform knows",
        answer=list[Container],
        parameters=(_IMAGE, _POD, _NAMESPACE),
        refusals={503: (Reason.RUNTIME_UNREACHABLE,)},
        roles=LOOKING,
    ),
    Operation(
        "about",
        "GET",
        f"{BASE}/about",
        "What the coordinator tells of itself",
        answer=Coordinator,
        roles=EVERYBODY,
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
        roles=LOOKING,
    ),
    Operation(
        "renew_agent",
        "PUT",
        f"{AGENTS}/{{id}}",
        "An agent is there; when it does not say so again within its `ttl`, its attachments end with `agent_lost`",
        answer=Agent,
        parameters=(ID,),
        body=Agent,
        refusals=MALFORMED | KEPT | {400: (Reason.MALFORMED, Reason.NAME_MISMATCH)},
        roles=AGENT,
    ),
    Operation(
        "give_up_agent",
        "DELETE",
        f"{AGENTS}/{{id}}",
        "An agent goes; whatever it still has ends with `agent_lost`",
        parameters=(ID,),
        refusals=KEPT,
        roles=AGENT,
    ),
    Operation(
        "list_audit",
        "GET",
        f"{BASE}/audit",
        "The audit trail: who did what; the newest entries that fit, the oldest of them first",
        answer=list[AuditEntry],
        parameters=(
            Parameter("attachment", "query", TEXT, "Only entries about this attachment"),
            Parameter("actor", "query", TEXT, "Only what this one did"),
            Parameter("action", "query", _actions, "Only this action"),
            Parameter("since", "query", _number, "Only entries from these unix seconds on"),
            _LIMIT,
        ),
        refusals={422: (Reason.INVALID,)} | KEPT,
        roles=LOOKING,
    ),
    Operation(
        "add_audit",
        "POST",
        f"{BASE}/audit",
        "Adds to the audit trail what an agent saw; no entry is ever changed",
        body=list[AuditEntry],
        refusals=MALFORMED | KEPT | {400: (Reason.MALFORMED,)},
        roles=AGENT,
    ),
    Operation(
        "list_sightings",
        "GET",
        f"{BASE}/sighting",
        "The last marked requests that sidecars told of, held or not; the newest first",
        answer=list[Sighting],
        parameters=(
            Parameter("trace", "query", TEXT, "Only of this trace id, `traceparent` or `x-request-id`"),
            _LIMIT,
        ),
        refusals={422: (Reason.INVALID,)},
        roles=LOOKING,
    ),
    Operation(
        "create_ticket",
        "POST",
        f"{BASE}/ticket",
        "Signs a ticket: a value of the mark for one developer, for some requests, for some time",
        201,
        IssuedTicket,
        body=TicketWish,
        refusals=MALFORMED | KEPT | {400: (Reason.MALFORMED,), 403: (Reason.TICKET_SCOPE,), 404: (Reason.NOT_FOUND,)},
        roles=DEVELOPER,
    ),
    Operation(
        "ticket_keys",
        "GET",
        f"{BASE}/ticket/keys",
        "The public keys that verify tickets, a JWKS; the one that signs new tickets first",
        answer=KeySet,
        refusals=KEPT,
        roles=EVERYBODY,
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
        refusals=KEPT | {422: (Reason.INVALID,)},
    ),
    Operation(
        "readyz",
        "GET",
        "/readyz",
        "Whether the coordinator can keep objects",
        answer=str,
        media="text/plain",
        refusals=KEPT,
        roles=None,
    ),
    Operation("metrics", "GET", "/metrics", "For Prometheus", answer=str, media="text/plain", roles=EVERYBODY),
    Operation("openapi", "GET", "/openapi.json", "This document", answer=dict[str, Any], roles=None),
    *ABOUT_ACCESS,
)

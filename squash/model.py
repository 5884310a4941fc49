"""The two objects of the API, their states, and what else goes over the wire.

The wire contract is additive to version 2 of the squash API: old clients see what they always saw.
Unknown fields are dropped while decoding, absent and null mean the same, defaults are left out of
the JSON (except `status.state`, which old clients always read).
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from squash.reasons import Reason

PYTHON_ALONE = r"(?!\n)"
"""Ends a pattern for Python, whose `$` also matches before a line feed at the end; other dialects do not know it."""
NAME_PATTERN = r"^[a-z0-9]([-a-z0-9.]{0,126}[a-z0-9])?$" + PYTHON_ALONE
"""Object names: lower-case letters, digits, `-` and `.`, at most 128 characters, as Kubernetes has them."""

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN, max_length=128)]
LONGEST_TEXT = 1024
Text = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT)]
"""Anything a person names: images, process names, nodes."""
IMAGE_PATTERN = r"^[^\x00-\x1f\x7f]*$" + PYTHON_ALONE
"""Names of images: whatever a runtime calls them by, but no control characters, which no image that runs has."""
Image = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT, pattern=IMAGE_PATTERN)]
MaybeImage = Annotated[str, msgspec.Meta(max_length=LONGEST_TEXT, pattern=IMAGE_PATTERN)]
"""The same where an empty text means none, as first clients say it."""
Note = Annotated[str, msgspec.Meta(max_length=16384)]
Pid = Annotated[int, msgspec.Meta(gt=0, lt=2**31)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=31_536_000)]
Status5xx = Annotated[int, msgspec.Meta(ge=500, le=599)]
Threshold = Annotated[float, msgspec.Meta(ge=0.1, le=3_600)]
"""Seconds; Envoy looks at answers from a tenth of a second on."""
METHOD_PATTERN = r"^[A-Z][A-Z0-9_-]{0,31}$" + PYTHON_ALONE
Method = Annotated[str, msgspec.Meta(pattern=METHOD_PATTERN)]
PATH_PATTERN = r"^[/*]"
"""How a pattern of paths begins."""


class State(StrEnum):
    """Where an attachment stands; moves forward only."""

    NONE = "none"
    ATTACHING = "attaching"
    ATTACHED = "attached"
    ERROR = "error"

    @property
    def rank(self) -> int:
        return _STATES.index(self)

    @property
    def final(self) -> bool:
        """True when a request held for this attachment may go."""
        return self.rank >= State.ATTACHED.rank


_STATES = list(State)


class Phase(StrEnum):
    """Finer than the state; moves forward only, steps may be left out."""

    LOCATED = "located"
    RESOLVING = "resolving"
    STARTING = "starting"
    LISTENING = "listening"
    CLIENT_CONNECTED = "client_connected"
    READY = "ready"
    RELEASED = "released"
    DETACHED = "detached"

    @property
    def rank(self) -> int:
        return _PHASES.index(self)


_PHASES = list(Phase)


class Outcome(StrEnum):
    """How a hold ended: exactly one for each marked request."""

    ATTACHED = "attached"
    NO_MATCH = "no_match"
    ERROR = "error"
    TIMEOUT = "timeout"
    RELEASED = "released"
    CALLER_GONE = "caller_gone"
    UNAVAILABLE = "unavailable"
    OVERLOADED = "overloaded"


class HoldUntil(StrEnum):
    """What ends a hold: the debugger is attached, or its client is connected and its breakpoints are set."""

    ATTACHED = "attached"
    READY = "ready"


class Trigger(StrEnum):
    """What makes a request be held for a debug request."""

    MARK = "mark"
    """It bears the mark."""
    FAILURE = "5xx"
    """Its first answer was a failure; Envoy's own retry of it is held."""
    LATENCY = "latency"
    """Another one of its method and path was slow."""


class Carrier(StrEnum):
    """What bore the mark when a marked request came: the header, the baggage, or both."""

    HEADER = "header"
    BAGGAGE = "baggage"
    BOTH = "both"


class Struct(msgspec.Struct, omit_defaults=True, kw_only=True, frozen=True):
    """Base of all wire objects: immutable; change one with `msgspec.structs.replace`."""


class Metadata(Struct, frozen=True, kw_only=True):
    name: Name | None = None


LONGEST_PATH = 2048
"""Characters of a path with its query that are told; a longer one is cut."""


class HeldRequest(Struct, frozen=True, kw_only=True):
    """What the filter tells of the request it holds. Never its body."""

    method: Text | None = None
    path: Annotated[str, msgspec.Meta(max_length=LONGEST_PATH)] | None = None
    authority: Text | None = None
    request_id: Text | None = None
    traceparent: Text | None = None
    baggage: Annotated[str, msgspec.Meta(max_length=8192)] | None = None
    """Without the mark's value."""
    mark: Carrier | None = None
    budget: Seconds | None = None
    """The caller's own deadline, in seconds from when the request was held; absent when it tells none."""


class Failure(Struct, frozen=True, kw_only=True):
    """The answer that set off a debug request with a trigger other than the mark."""

    status: Annotated[int, msgspec.Meta(ge=100, le=599)] | None = None
    duration: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Seconds."""
    headers: dict[Text, Text] | None = None
    """Only those that the sidecar's allow-list names."""


class Attempt(Struct, frozen=True, kw_only=True):
    """One way to attach a debugger that was tried."""

    strategy: Text
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    reason: Reason | None = None
    """Why it failed; absent when it did not."""
    message: Note | None = None
    """What went wrong; without a reason: what is to be known although it worked."""


class Candidate(Struct, frozen=True, kw_only=True):
    """A process that could be meant, and the debugger that suits it best."""

    pid: Pid
    name: Text
    debugger: Text


class Container(Struct, frozen=True, kw_only=True):
    """A container that runs. `attachment` is the `spec.attachment` that means this one and no other."""

    image: Text
    node: Text
    attachment: dict[str, Any]
    mesh_proxy: bool = False
    """It is never chosen by itself."""


class AttachmentSpec(Struct, frozen=True, kw_only=True):
    attachment: dict[str, Any]
    """Belongs to the platform: pod, namespace, container, …"""
    debugger: Text | None = None
    image: MaybeImage | None = None
    images: list[Text] | None = None
    """Other names of the image, such as its digest; written by the coordinator."""
    process_name: Text | None = None
    node: Text | None = None
    match_request: bool | None = None
    hold_until: HoldUntil | None = None
    holder: Text | None = None
    """The sidecar that holds a request for this attachment; absent when nothing is held."""
    held: HeldRequest | None = None
    ttl: Seconds | None = None
    """Seconds after which an attachment that is not attached yet turns to `error`, reason `expired`.

    With a holder the reason is `hold_lost`: a sidecar that still lives ends its hold before.
    """
    debug_request: Name | None = None
    """The debug request that this attachment was matched to; written by the coordinator."""
    ticket: Annotated[str, msgspec.Meta(max_length=4096)] | None = None
    """The ticket that marked the request. Taken out by the coordinator, which neither keeps nor tells it."""
    ticket_id: Name | None = None
    """The ticket's name; written by the coordinator."""
    owner: Text | None = None
    """The developer it is for: of the matched debug request, else whoever created it."""
    creator: Text | None = None
    """Who created it; written by the coordinator where callers have to say who they are."""
    read_only: bool | None = None
    """Sessions may look, but change nothing."""
    allow_terminate: bool | None = None
    """Sessions may end the process; otherwise that becomes a detach."""
    trigger: Trigger | None = None
    """What made the request be held; absent: the mark."""
    failure: Failure | None = None
    pid: Pid | None = None
    """The process to debug, by its number on the agent's node."""
    only_choice: bool | None = None
    """When several processes suit equally: refuse and list them, instead of taking the oldest."""
    lease: Seconds | None = None
    """Seconds within which it must be renewed, again and again, until a client has connected.

    Otherwise whoever asked is gone, and the debugger is taken out. After that the agent sees clients come and go.
    """
    ready_by_hand: bool | None = None
    """A developer said that everything is ready; written by the coordinator."""

    def __repr__(self) -> str:
        shown = ((name, "******" if name == "ticket" else value) for name, value in _given(self))
        return f"AttachmentSpec({', '.join(f'{name}={value!r}' for name, value in shown)})"


def _given(struct: Struct) -> Iterator[tuple[str, Any]]:
    """Name and value of each field that is set."""
    for name in struct.__struct_fields__:
        if (value := getattr(struct, name)) is not None:
            yield name, value


def _none_state() -> State:
    return State.NONE


class AttachmentStatus(Struct, frozen=True, kw_only=True):
    # A factory, so that omit_defaults keeps the field on the wire.
    state: State = msgspec.field(default_factory=_none_state)
    debug_server_address: Text | None = None
    phase: Phase | None = None
    reason: Reason | None = None
    message: Note | None = None
    agent: Text | None = None
    """The agent that claimed the attachment."""
    debugger: Text | None = None
    """The debugger in use, when the spec left it open."""
    protocol: Text | None = None
    """What the debug server speaks: `dap` or `gdb`."""
    pid: Pid | None = None
    client: Text | None = None
    """Who is connected to the debug server; empty when nobody is."""
    attempts: list[Attempt] | None = None
    """What was tried to attach the debugger, in order."""
    renewed: float | None = None
    """Unix seconds; absent until it is renewed."""
    candidates: list[Candidate] | None = None
    """With reason `process_ambiguous`: those to choose from."""
    choice: Note | None = None
    """Why this process was taken, and which others there were."""
    outcome: Outcome | None = None
    """How the hold ended; absent while held and for attachments without a hold."""
    times: dict[str, float] | None = None
    """Unix seconds at which a state, a phase or `let_go` (the end of the hold) was reached, by its name."""


class DebugAttachment(Struct, frozen=True, kw_only=True):
    spec: AttachmentSpec
    metadata: Metadata = Metadata()
    status: AttachmentStatus = msgspec.field(default_factory=AttachmentStatus)

    @property
    def name(self) -> str:
        return self.metadata.name or ""


class StatusPatch(Struct, frozen=True, kw_only=True):
    """The status fields that a PATCH may carry; absent ones stay as they are."""

    state: State | None = None
    debug_server_address: Text | None = None
    phase: Phase | None = None
    reason: Reason | None = None
    message: Note | None = None
    agent: Text | None = None
    debugger: Text | None = None
    protocol: Text | None = None
    pid: Pid | None = None
    client: Text | None = None
    attempts: list[Attempt] | None = None
    candidates: list[Candidate] | None = None
    choice: Note | None = None
    outcome: Outcome | None = None

    def fields(self) -> Iterator[tuple[str, Any]]:
        """Name and value of each field that is set."""
        yield from _given(self)


class AttachmentPatch(Struct, frozen=True, kw_only=True):
    """The body of PATCH /debugattachment/{id}. A `spec` in it is ignored, as it always was."""

    metadata: Metadata = Metadata()
    status: StatusPatch = StatusPatch()


class RequestSpec(Struct, frozen=True, kw_only=True):
    image: Image
    debugger: Text
    """The debugger's name; empty leaves the choice to the attachment and the agent."""
    process_name: Text | None = None
    hold_until: HoldUntil | None = None
    ttl: Seconds | None = None
    """Seconds after which an unmatched request is removed."""
    owner: Text | None = None
    """The developer who asks; with authentication the coordinator writes who it is."""
    namespace: Text | None = None
    """Only containers of this namespace."""
    read_only: bool | None = None
    """Sessions may look, but change nothing."""
    allow_terminate: bool | None = None
    """Sessions may end the process; otherwise that becomes a detach."""
    trigger: Trigger | None = None
    """What makes a request be held; absent: the mark."""
    statuses: Annotated[list[Status5xx], msgspec.Meta(min_length=1, max_length=100)] | None = None
    """With the trigger `5xx`: the statuses that set it off; absent: all from 500 to 599."""
    threshold: Threshold | None = None
    """With the trigger `latency`: seconds from which an answer counts as slow; absent: 1."""
    methods: Annotated[list[Method], msgspec.Meta(min_length=1, max_length=16)] | None = None
    """With a trigger other than the mark: methods of requests that may be held; absent: GET, HEAD and OPTIONS."""
    path: Annotated[str, msgspec.Meta(pattern=PATH_PATTERN, max_length=256)] | None = None
    """With a trigger other than the mark: the path without its query, where `*` stands for any characters."""
    lease: Seconds | None = None
    """Seconds within which it must be renewed, again and again, until the held request may go.

    Otherwise whoever asked is gone: the debug request is removed, and what is held for it let go.
    """


class RequestStatus(Struct, frozen=True, kw_only=True):
    debug_attachment_ref: Name | None = None
    created: float | None = None
    """Unix seconds."""
    renewed: float | None = None
    """Unix seconds; absent until it is renewed."""


class DebugRequest(Struct, frozen=True, kw_only=True):
    spec: RequestSpec
    metadata: Metadata = Metadata()
    status: RequestStatus = msgspec.field(default_factory=RequestStatus)

    @property
    def name(self) -> str:
        return self.metadata.name or ""


class Action(StrEnum):
    """What happened, in the audit trail."""

    REQUEST_CREATED = "request_created"
    REQUEST_DELETED = "request_deleted"
    REQUEST_EXPIRED = "request_expired"
    ATTACHMENT_CREATED = "attachment_created"
    """Without a debug request: a debugger was asked for one container."""
    MATCHED = "matched"
    """A marked request met a debug request; it is held from here on."""
    CLAIMED = "claimed"
    """An agent took the attachment."""
    ATTACHED = "attached"
    FAILED = "failed"
    """The attachment ended in an error; the detail is its reason."""
    LET_GO = "let_go"
    """The hold ended; the detail is its outcome."""
    READY_BY_HAND = "ready_by_hand"
    RELEASED = "released"
    DELETED = "deleted"
    DETACHED = "detached"
    CLIENT_CONNECTED = "client_connected"
    CLIENT_LEFT = "client_left"
    BREAKPOINTS = "breakpoints"
    """A client set breakpoints; the detail says how many and where, never their conditions."""
    RESUMED = "resumed"
    """A client let the process run on from a stop, for good or for a step."""
    PAUSED = "paused"
    TAKEN_OVER = "taken_over"
    """A client took the session from another; the detail names whose it was."""
    EVALUATED = "evaluated"
    """An expression was evaluated in the process; neither it nor its value is told."""
    CHANGED = "changed"
    """A variable, memory or a register was written; the detail says which of these, never a value."""
    REFUSED = "refused"
    """The session did not let something happen; the detail is the protocol's name for it, and why."""
    TERMINATION_REFUSED = "termination_refused"
    """A client wanted to end the process and was detached instead."""
    TERMINATED = "terminated"
    """A client ended the process, as the attachment allowed."""
    UNFOLLOWED = "unfollowed"
    """What was said was not of the protocol; the detail says whether that ended the session, or it goes on unread."""
    TOKEN_CREATED = "token_created"  # noqa: S105 - no secret
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    TICKET_ISSUED = "ticket_issued"
    KEYS_ROTATED = "keys_rotated"
    """The keys that sign tickets."""
    AGENT_JOINED = "agent_joined"
    AGENT_LEFT = "agent_left"
    AGENT_LOST = "agent_lost"


class AuditEntry(Struct, frozen=True, kw_only=True):
    """One line of the audit trail: who did what, when. Values of the debugged program never stand in it."""

    time: float
    """Unix seconds."""
    actor: Text
    """Who did it: a developer, a sidecar, an agent, or `coordinator`; `unknown` when nobody said."""
    action: Action
    attachment: Name | None = None
    request: Name | None = None
    image: Text | None = None
    detail: Text | None = None
    agent: Text | None = None
    """The agent that tells it; absent when the coordinator saw it itself."""


class Agent(Struct, frozen=True, kw_only=True):
    """An agent and its lease: it serves the attachments of its node, as long as it renews."""

    name: Text = ""
    """Its identity, which stays the same across its restarts."""
    node: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT)]
    version: Text | None = None
    debuggers: list[Text] = []
    ttl: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] | None = None
    """Seconds until the lease runs out unless it is renewed; absent: as the coordinator's settings say."""
    boot: Text | None = None
    """Which start of its machine it lives in: none of an earlier one can still be there."""
    since: float | None = None
    """When it came (unix seconds); written by the coordinator, as all that follows."""
    seen: float | None = None
    """When it renewed last (unix seconds)."""
    lost: bool = False
    """Its lease has run out."""


class Sighting(Struct, frozen=True, kw_only=True):
    """A marked request that a sidecar told of: what became of it, also when it was not held."""

    time: float
    """Unix seconds."""
    pod: Text | None = None
    namespace: Text | None = None
    container: Text | None = None
    image: Text | None = None
    images: list[Text] | None = None
    """Other names of the image."""
    node: Text | None = None
    method: Text | None = None
    path: Annotated[str, msgspec.Meta(max_length=LONGEST_PATH)] | None = None
    request_id: Text | None = None
    traceparent: Text | None = None
    mark: Carrier | None = None
    """What the service before has passed on, or the caller has set."""
    outcome: Outcome | None = None
    """Absent while it is held."""
    reason: Reason | None = None
    attachment: Name | None = None
    message: Note | None = None


class Changes(Struct, frozen=True, kw_only=True):
    """Answer of GET /changes: what happened to attachments after the revision asked for."""

    revision: Annotated[str, msgspec.Meta(max_length=128)]
    reset: bool = False
    """True when `attachments` is everything of the node or holder, in whatever state: what is not in it is gone."""
    attachments: list[DebugAttachment] = []
    deleted: list[str] = []
    """Apply it before `attachments`: a name in both was deleted and made anew."""


class Coordinator(Struct, frozen=True, kw_only=True):
    """What a coordinator tells of itself."""

    version: Text
    started: float
    """Unix seconds."""
    store: Text
    platform: Text
    auth: Text = "none"
    """Who may call it: `none` asks nobody, `token` wants to know."""
    store_fault: Note | None = None
    """Why nothing can be kept just now."""


class Wish(Struct, frozen=True, kw_only=True):
    """A debug request with a trigger, as far as a sidecar has to know it."""

    name: Name
    trigger: Trigger
    statuses: list[int] | None = None
    threshold: float | None = None
    methods: list[str] | None = None
    path: str | None = None


class Wishes(Struct, frozen=True, kw_only=True):
    """Answer of GET /trigger: the pending debug requests with a trigger that fit a container, oldest first."""

    revision: str
    """Changes with the rest, and only with it."""
    image: Text
    wishes: list[Wish] = []


class Refusal(Struct, frozen=True, kw_only=True):
    """The body of every answer that is not 2xx."""

    code: int
    reason: Reason
    message: str
    remedy: str

"""Who may do what, beyond what their role says: with which attachments, as whom, on what terms. Pure.

What a role may do at all stands in the table of the API (`openapi.OPERATIONS`). Everything here refuses with ApiError
403. Without authentication everybody is `ANYBODY`, who may do everything, and what clients say of themselves counts.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from dataclasses import replace as replaced

from msgspec.structs import replace

from coordinator.selection import Selection
from coordinator.trail import UNKNOWN
from squash.access import Role, Token
from squash.errors import ApiError
from squash.model import Action, AttachmentPatch, AttachmentSpec, AuditEntry, DebugAttachment, DebugRequest, State
from squash.reasons import Reason
from squash.ticket import TicketWish
from squash.tunnel import Guest

_OF_A_FILTER = frozenset({"state", "reason", "message", "outcome"})
"""What there is to tell of a hold."""
_OF_SESSIONS = frozenset(
    {
        Action.CLIENT_CONNECTED,
        Action.CLIENT_LEFT,
        Action.BREAKPOINTS,
        Action.RESUMED,
        Action.PAUSED,
        Action.TAKEN_OVER,
        Action.EVALUATED,
        Action.CHANGED,
        Action.REFUSED,
        Action.TERMINATION_REFUSED,
        Action.TERMINATED,
    }
)
"""What an agent sees and the coordinator does not."""
_LATEST = 86_400.0
"""Seconds that what an agent saw may be late: it keeps it while it cannot reach us."""


@dataclass(frozen=True)
class Principal:
    """Who makes a call."""

    subject: str
    role: Role
    known: bool = True
    """Whether that was proved."""
    token: str | None = None
    """The id of the token that proved it."""
    node: str | None = None
    namespace: str | None = None
    attachment: str | None = None
    """Opens tunnels to this attachment's debug server, and does nothing else."""
    read_only: bool = False
    parent: str | None = None
    """The token that this one was made with."""

    @classmethod
    def of(cls, token: Token) -> "Principal":
        return cls(
            token.subject,
            token.role,
            token=token.id,
            node=token.node,
            namespace=token.namespace,
            attachment=token.attachment,
            read_only=token.read_only,
            parent=token.parent,
        )

    @property
    def all_powerful(self) -> bool:
        return self.role is Role.ADMIN

    @property
    def carries_on(self) -> bool:
        """Whether its watching tells that an agent or a sidecar is there."""
        return self.role in (Role.AGENT, Role.FILTER, Role.ADMIN)

    def __str__(self) -> str:
        return f"{self.subject or 'anybody'} ({self.role})"


ANYBODY = Principal("", Role.ADMIN, known=False)


def check_role(principal: Principal, roles: AbstractSet[Role], what: str) -> None:
    """Whether the role may do this at all; an admin may do everything."""
    if principal.attachment is not None:
        message = f"the token of {principal} opens tunnels to debug attachment {principal.attachment} and nothing else"
        raise ApiError(403, Reason.FORBIDDEN, message)
    if not principal.all_powerful and principal.role not in roles:
        allowed = ", ".join(role for role in Role if role in roles or role is Role.ADMIN)
        raise ApiError(403, Reason.FORBIDDEN, f"{what} is for {allowed}; the token is of {principal}")


# -- debug attachments --------------------------------------------------------------------------------


def new_attachment(principal: Principal, wanted: DebugAttachment) -> DebugAttachment:
    """The attachment as this one may create it."""
    if not principal.known:
        return replace(wanted, spec=replace(wanted.spec, creator=None))
    spec = replace(wanted.spec, creator=principal.subject, owner=principal.subject)
    if principal.role is Role.FILTER:
        if not (spec.match_request and spec.holder):
            raise _refused("a filter creates attachments with match_request and a holder only")
        # Whose it is tells the debug request that it is matched to; whoever holds a request has no say in its terms.
        spec = replace(spec, owner=None, read_only=None, allow_terminate=None)
    elif principal.role is Role.DEVELOPER and (spec.match_request or spec.holder):
        raise _refused("match_request and holder are for filters, which hold a request")
    check_namespace(principal, spec.attachment.get("namespace"), asked=True)
    return replace(wanted, spec=spec)


def check_place(principal: Principal, spec: AttachmentSpec) -> None:
    """Whether it may be of this container, which the platform has found by now."""
    check_namespace(principal, spec.attachment.get("namespace"))


def check_namespace(principal: Principal, namespace: object, *, asked: bool = False) -> None:
    """`asked`: as somebody named it, who may also leave it out."""
    if principal.namespace is None or (asked and namespace is None):
        return
    if namespace != principal.namespace:
        there = f"namespace {str(namespace)[:64]!r}" if namespace is not None else "no namespace"
        raise _refused(f"the token of {principal} is for namespace {principal.namespace!r}, and this is of {there}")


def check_sees(principal: Principal, attachment: DebugAttachment) -> None:
    """People see everything; agents what is of their node, filters what they created."""
    spec = attachment.spec
    if principal.role is Role.AGENT and principal.node not in (None, spec.node):
        raise _refused(f"the token of {principal} is for node {principal.node!r}, and {attachment.name} is of another")
    if principal.role is Role.FILTER and spec.creator != principal.subject:
        raise _refused(f"debug attachment {attachment.name} is not of {principal}")


def check_patch(principal: Principal, attachment: DebugAttachment, patch: AttachmentPatch) -> None:
    """An agent tells of its node's attachments, a filter how its holds ended."""
    check_sees(principal, attachment)
    if principal.role is Role.FILTER:
        given = dict(patch.status.fields())
        if given.keys() - _OF_A_FILTER or given.get("state") not in (None, State.ERROR):
            raise _refused(
                f"a filter tells state error, {', '.join(sorted(_OF_A_FILTER - {'state'}))} and nothing else"
            )


def check_owner(principal: Principal, owner: str | None, what: str) -> None:
    """Whether it is theirs. `what` names it."""
    if principal.known and not principal.all_powerful and owner != principal.subject:
        raise _refused(f"{what} is {f'of {owner}' if owner else 'nobody’s'}; only they and an admin may do this")


def visible(principal: Principal, wanted: Selection) -> Selection:
    """What this one gets to see of a selection, which has to name its node or its holder where it may see no more."""
    if principal.role is Role.AGENT and principal.node is not None and wanted.nodes != {principal.node}:
        raise _refused(f"the token of {principal} is for node {principal.node!r}: ask for that one (node=…)")
    if principal.role is Role.FILTER:
        if not wanted.holder:
            raise _refused("a filter sees what it holds: ask for that (holder=…)")
        return replaced(wanted, creator=principal.subject)
    return wanted


# -- debug requests -----------------------------------------------------------------------------------


def new_request(principal: Principal, wanted: DebugRequest) -> DebugRequest:
    """The debug request as this one may make it."""
    if not principal.known:
        return wanted
    spec = replace(wanted.spec, owner=principal.subject, namespace=wanted.spec.namespace or principal.namespace)
    check_namespace(principal, spec.namespace)
    return replace(wanted, spec=spec)


def new_ticket(principal: Principal, wish: TicketWish) -> TicketWish:
    """The ticket as this one may have it: an admin may name the developer it is for."""
    if not principal.known:
        return wish
    owner = wish.owner if principal.all_powerful and wish.owner else principal.subject
    wish = replace(wish, owner=owner, namespace=wish.namespace or principal.namespace)
    check_namespace(principal, wish.namespace)
    return wish


# -- tunnels ------------------------------------------------------------------------------------------


def steers(principal: Principal, attachment: DebugAttachment) -> bool:
    """Whether it is theirs to steer: the owner's, and an admin's. Everybody else is a guest, who looks only."""
    own = principal.role is Role.DEVELOPER and attachment.spec.owner == principal.subject
    return own or principal.all_powerful


def check_tunnel(principal: Principal, attachment: str) -> None:
    """A tunnel needs a token for that attachment alone."""
    if not principal.known:
        return
    if principal.attachment is None:
        raise ApiError(403, Reason.TUNNEL_TOKEN, f"the token of {principal} opens no tunnel")
    if principal.attachment != attachment:
        raise ApiError(403, Reason.TUNNEL_TOKEN, f"the token is for debug attachment {principal.attachment}")


def guest(principal: Principal, attachment: DebugAttachment, told: Guest) -> Guest:
    """Who the agent is told the client is, and on what terms; worked out at each opening.

    Between the making of a token and its use the name may have come to stand for another attachment. A guest must not
    be the one that a held request waits for, and gdb stops a process by looking at it.
    """
    if not principal.known:
        return told
    check_place(principal, attachment.spec)
    own = steers(principal, attachment)
    if not own and not attachment.status.state.final:
        raise _refused(f"debug attachment {attachment.name} is not attached yet: until then only its owner connects")
    if not own and attachment.status.protocol != "dap":
        raise _refused(f"the debugger of debug attachment {attachment.name} stops the process for whoever connects")
    return Guest(
        client=principal.subject,
        takeover=told.takeover and own,
        read_only=told.read_only or principal.read_only or not own,
        looks_only=not own,
    )


# -- the audit trail ----------------------------------------------------------------------------------


def told_entry(principal: Principal, entry: AuditEntry, now: float) -> AuditEntry:
    """An entry as an agent may add it: of a session, not of the future, and with the agent's own name."""
    if entry.action not in _OF_SESSIONS or entry.attachment is None:
        raise _refused(f"agents tell what happens in sessions; {entry.action} is not theirs to tell, or of nothing")
    teller = principal.subject if principal.known else entry.agent or UNKNOWN
    return replace(entry, time=min(max(entry.time, now - _LATEST), now), agent=teller)


def check_node(principal: Principal, node: str | None, what: str) -> None:
    """Whether an agent may act for this node; None when nobody knows it."""
    if principal.node is not None and node is not None and principal.node != node:
        raise _refused(f"the token of {principal} is for node {principal.node!r}, and {what} is of another")


def _refused(message: str) -> ApiError:
    return ApiError(403, Reason.NOT_YOURS, message)

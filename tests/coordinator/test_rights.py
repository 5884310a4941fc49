"""Who may do what, beyond the role."""

from dataclasses import replace as replaced

import pytest
from msgspec.structs import replace

from coordinator import rights
from coordinator.rights import ANYBODY, Principal
from coordinator.selection import Selection
from squash.access import Role, Token
from squash.errors import ApiError
from squash.model import (
    Action,
    AttachmentPatch,
    AttachmentSpec,
    AttachmentStatus,
    AuditEntry,
    DebugAttachment,
    DebugRequest,
    Metadata,
    Outcome,
    RequestSpec,
    State,
    StatusPatch,
)
from squash.reasons import Reason
from squash.tunnel import Guest

ANN = Principal("ann", Role.DEVELOPER, token="1")
BOB = Principal("bob", Role.DEVELOPER, token="2")
EVE = Principal("eve", Role.VIEWER, token="3")
ADMIN = Principal("root", Role.ADMIN, token="4")
AGENT = Principal("agent-7", Role.AGENT, token="5", node="n7")
ANY_AGENT = Principal("agents", Role.AGENT, token="6")
SHOP = Principal("shop", Role.FILTER, token="7", namespace="shop")


def attachment(**spec: object) -> DebugAttachment:
    plain = AttachmentSpec(attachment={"pod": "p", "namespace": "shop"}, node="n7")
    return DebugAttachment(metadata=Metadata(name="a"), spec=replace(plain, **spec))


def held(**spec: object) -> DebugAttachment:
    return attachment(**({"match_request": True, "holder": "sidecar-1"} | spec))


class refused:  # noqa: N801 - reads like pytest.raises
    def __init__(self, reason: Reason = Reason.NOT_YOURS) -> None:
        self._reason = reason
        self._raises = pytest.raises(ApiError)

    def __enter__(self) -> None:
        self._error = self._raises.__enter__()

    def __exit__(self, *error: object) -> bool:
        met = self._raises.__exit__(*error)  # type: ignore[arg-type]  # the three of any context manager
        assert (self._error.value.code, self._error.value.reason) == (403, self._reason)
        return met


def test_role() -> None:
    developers = frozenset({Role.DEVELOPER})
    for allowed in (ANN, ADMIN, ANYBODY):
        rights.check_role(allowed, developers, "it")
    for other in (EVE, AGENT, SHOP):
        with refused(Reason.FORBIDDEN):
            rights.check_role(other, developers, "it")
    rights.check_role(ADMIN, frozenset(), "it")
    with refused(Reason.FORBIDDEN):
        rights.check_role(ANN, frozenset(), "it")


def test_tunnel_token_does_nothing_else() -> None:
    for role in (Role.DEVELOPER, Role.ADMIN):
        token = Token(id="t", role=role, subject="ann", created=0, expires=1, attachment="a")
        principal = Principal.of(token)
        with refused(Reason.FORBIDDEN):
            rights.check_role(principal, frozenset(Role), "it")
        rights.check_tunnel(principal, "a")
        with refused(Reason.TUNNEL_TOKEN):
            rights.check_tunnel(principal, "b")
    for plain in (ANN, ADMIN, EVE, AGENT, SHOP):
        with refused(Reason.TUNNEL_TOKEN):
            rights.check_tunnel(plain, "a")
    rights.check_tunnel(ANYBODY, "a")


def test_owner_and_creator_are_who_calls() -> None:
    claimed = attachment(owner="eve", creator="eve")
    made = rights.new_attachment(ANN, claimed).spec
    assert (made.owner, made.creator) == ("ann", "ann")
    unknown = rights.new_attachment(ANYBODY, claimed).spec
    assert (unknown.owner, unknown.creator) == ("eve", None)
    wish = DebugRequest(spec=RequestSpec(image="i", debugger="", owner="eve"))
    assert rights.new_request(ANN, wish).spec.owner == "ann"
    assert rights.new_request(ANYBODY, wish).spec.owner == "eve"


def test_filter_only_holds() -> None:
    made = rights.new_attachment(SHOP, held(owner="ann", allow_terminate=True, read_only=False)).spec
    assert (made.owner, made.allow_terminate, made.creator) == (None, None, "shop")
    for wrong in (held(match_request=None), held(holder=None), attachment()):
        with refused():
            rights.new_attachment(SHOP, wrong)
    for wrong in (held(holder=None), held(match_request=None)):
        with refused():
            rights.new_attachment(ANN, wrong)
    rights.new_attachment(ADMIN, held())


def test_namespace() -> None:
    with refused():
        rights.new_attachment(SHOP, held(attachment={"pod": "p", "namespace": "bank"}))
    unnamed = rights.new_attachment(SHOP, held(attachment={"pod": "p"}))
    for place in ({"namespace": "bank"}, {}, {"namespace": 5}):
        with refused():
            rights.check_place(SHOP, replace(unnamed.spec, attachment=place))
    rights.check_place(SHOP, held().spec)
    rights.check_place(replace_namespace(SHOP, None), attachment(attachment={}).spec)
    scoped = replace_namespace(ANN, "shop")
    wish = DebugRequest(spec=RequestSpec(image="i", debugger=""))
    assert rights.new_request(scoped, wish).spec.namespace == "shop"
    with refused():
        rights.new_request(scoped, replace(wish, spec=replace(wish.spec, namespace="bank")))


def replace_namespace(principal: Principal, namespace: str | None) -> Principal:
    return Principal(principal.subject, principal.role, token=principal.token, namespace=namespace)


def test_owner() -> None:
    for allowed in (ANN, ADMIN, ANYBODY):
        rights.check_owner(allowed, "ann", "it")
    with refused():
        rights.check_owner(BOB, "ann", "it")
    with refused():
        rights.check_owner(BOB, None, "it")
    rights.check_owner(ADMIN, None, "it")


def test_who_sees_what() -> None:
    everything = Selection()
    for person in (ANN, EVE, ADMIN, ANYBODY, ANY_AGENT):
        assert rights.visible(person, everything) is everything
        rights.check_sees(person, attachment(node="n8"))
    own = Selection(nodes=frozenset({"n7"}))
    assert rights.visible(AGENT, own) is own
    for wrong in (everything, Selection(nodes=frozenset({"n8"})), Selection(nodes=frozenset({"n7", "n8"}))):
        with refused():
            rights.visible(AGENT, wrong)
    assert rights.visible(SHOP, Selection(holder="sidecar-1")).creator == "shop"
    with refused():
        rights.visible(SHOP, own)
    rights.check_sees(AGENT, attachment())
    rights.check_sees(SHOP, attachment(creator="shop"))
    with refused():
        rights.check_sees(AGENT, attachment(node="n8"))
    for creator in ("bank", None):
        with refused():
            rights.check_sees(SHOP, attachment(creator=creator))


def test_who_reports_what() -> None:
    def patch(**status: object) -> AttachmentPatch:
        return AttachmentPatch(status=replace(StatusPatch(), **status))

    own = held(creator="shop")
    rights.check_patch(AGENT, own, patch(state=State.ATTACHED, debug_server_address="unix:/x", agent="a"))
    rights.check_patch(SHOP, own, patch(state=State.ERROR, reason=Reason.CALLER_GONE, message="m"))
    rights.check_patch(SHOP, own, patch(outcome=Outcome.ATTACHED))
    for wrong in (patch(state=State.ATTACHED), patch(agent="a"), patch(debug_server_address="unix:/x")):
        with refused():
            rights.check_patch(SHOP, own, wrong)
    with refused():
        rights.check_patch(AGENT, attachment(node="n8"), patch(message="m"))


def test_who_steers() -> None:
    owned = attachment(owner="ann")
    for owner in (ANN, ADMIN, ANYBODY):
        assert rights.steers(owner, owned)
    for other in (BOB, EVE, AGENT, SHOP):
        assert not rights.steers(other, owned)
    assert not rights.steers(EVE, attachment(owner="eve"))
    assert not rights.steers(ANN, attachment(owner=None))


def serving(state: State = State.ATTACHED, protocol: str = "dap") -> DebugAttachment:
    return replace(attachment(owner="ann"), status=AttachmentStatus(state=state, protocol=protocol))


def test_who_the_agent_hears_of() -> None:
    told = Guest(client="somebody", takeover=True)
    assert rights.guest(ANYBODY, serving(), told) is told
    assert rights.guest(ANN, serving(State.ATTACHING, "gdb"), told) == Guest(client="ann", takeover=True)
    assert rights.guest(ADMIN, serving(State.ATTACHING, "gdb"), told) == Guest(client="root", takeover=True)
    looking = replaced(ANN, attachment="a", read_only=True)
    assert rights.guest(looking, serving(), told) == Guest(client="ann", takeover=True, read_only=True)
    for guest in (BOB, EVE):
        assert rights.guest(guest, serving(), told) == Guest(client=guest.subject, read_only=True, looks_only=True)


@pytest.mark.parametrize("guest", [BOB, EVE])
def test_guests_open_no_gate_and_stop_nothing(guest: Principal) -> None:
    for unfit in (serving(State.ATTACHING), serving(State.NONE), serving(protocol="gdb")):
        with refused():
            rights.guest(guest, unfit, Guest())


def test_tunnel_of_another_namespace() -> None:
    with refused():
        rights.guest(replace_namespace(ANN, "bank"), serving(), Guest())
    rights.guest(replace_namespace(ANN, "shop"), serving(), Guest())


def test_agents_tell_of_sessions_alone() -> None:
    entry = AuditEntry(time=99.0, actor="ann", action=Action.EVALUATED, attachment="a", agent="another")
    assert rights.told_entry(AGENT, entry, 100.0) == replace(entry, agent="agent-7")
    assert rights.told_entry(ANYBODY, entry, 100.0) == entry
    assert rights.told_entry(ANYBODY, replace(entry, agent=None), 100.0).agent == "unknown"
    assert rights.told_entry(AGENT, replace(entry, time=1e12), 100.0).time == 100.0
    assert rights.told_entry(AGENT, entry, 1e6).time == 1e6 - 86_400
    theirs = {
        action
        for action in Action
        if action.startswith(("request_", "attachment_", "token_", "ticket_", "keys_", "agent_"))
    }
    own = {Action.MATCHED, Action.CLAIMED, Action.ATTACHED, Action.LET_GO, Action.RELEASED, Action.DELETED}
    for action in theirs | own:
        with refused():
            rights.told_entry(AGENT, replace(entry, action=action), 100.0)
    with refused():
        rights.told_entry(AGENT, replace(entry, attachment=None), 100.0)


def test_node_of_an_agent() -> None:
    rights.check_node(AGENT, "n7", "it")
    rights.check_node(AGENT, None, "it")
    rights.check_node(ANY_AGENT, "n8", "it")
    with refused():
        rights.check_node(AGENT, "n8", "it")

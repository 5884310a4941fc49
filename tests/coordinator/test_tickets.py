"""Tickets at a real coordinator: signing, keys, what a ticket binds to, and how often it may be used."""

import signal
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from coordinator.tickets import Tickets
from squash.errors import ApiError
from squash.model import AttachmentSpec
from squash.reasons import Reason
from squash.settings import CoordinatorSettings
from squash.ticket import Claims, KeySet, TicketWish, Verifier, sign
from tests.coordinator.program import ATTACHMENTS, Coordinator

TICKET = "/api/v2/ticket"


def issue(own: Coordinator, image: str, **wish: Any) -> str:
    answer = own.http.post(TICKET, json={"image": image, **wish})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


def keys(own: Coordinator) -> KeySet:
    return msgspec.json.decode(own.http.get(f"{TICKET}/keys").content, type=KeySet)


def held(own: Coordinator, pod: str, ticket: str, **spec: Any) -> httpx.Response:
    return own.attach(pod, match=True, ticket=ticket, **spec)


def refused(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["reason"]


def test_a_ticket_holds_once_for_its_developer(own: Coordinator, pod: str, image: str) -> None:
    other = own.wish(image, owner="bob@desk")
    wish = own.wish(image, owner="ann@desk")
    ticket = issue(own, image, owner="ann@desk")
    answer = held(own, pod, ticket)
    assert answer.status_code == 201, answer.text
    spec = answer.json()["spec"]
    assert (spec["debug_request"], spec["owner"]) == (wish, "ann@desk")
    assert spec["ticket_id"] == Verifier(keys(own)).claims(ticket).jti
    assert "ticket" not in spec
    assert refused(held(own, pod, ticket)) == (403, "ticket_used")
    signature = ticket.rsplit(".", 1)[1]
    assert signature not in own.http.get(ATTACHMENTS).text + own.http.get("/api/v2/changes").text
    assert signature not in own.log
    assert "debug_attachment_ref" not in own.http.get(f"/api/v2/debugrequest/{other}").json()["status"]


def test_two_developers_on_one_image_never_cross(own: Coordinator, pod: str, image: str) -> None:
    wishes = {who: [own.wish(image, owner=who) for _ in range(3)] for who in ("ann@desk", "bob@desk")}
    tickets = {who: issue(own, image, owner=who, uses=3) for who in wishes}
    for who in ("bob@desk", "ann@desk") * 3:
        assert held(own, pod, tickets[who]).json()["spec"]["debug_request"] == wishes[who].pop(0)


def test_nobody_waits_and_the_ticket_is_not_used_up(own: Coordinator, pod: str, image: str) -> None:
    ticket = issue(own, image, owner="ann@desk")
    own.wish(image, owner="bob@desk")
    own.wish(image)
    answer = held(own, pod, ticket)
    assert refused(answer) == (404, "no_pending_request")
    assert "of ann@desk" in answer.json()["message"]
    own.wish(image, owner="ann@desk")
    assert held(own, pod, ticket).status_code == 201


def test_a_ticket_of_nobody_holds_for_wishes_of_nobody(own: Coordinator, pod: str, image: str) -> None:
    own.wish(image, owner="ann@desk")
    ticket = issue(own, image)
    answer = held(own, pod, ticket)
    assert refused(answer) == (404, "no_pending_request")
    assert "of nobody in particular" in answer.json()["message"]
    wish = own.wish(image)
    assert held(own, pod, ticket).json()["spec"]["debug_request"] == wish


def test_a_ticket_for_one_debug_request(own: Coordinator, pod: str, image: str) -> None:
    own.wish(image, owner="ann@desk")
    second = own.wish(image, owner="ann@desk")
    ticket = issue(own, image, owner="ann@desk", request=second, uses=2)
    assert held(own, pod, ticket).json()["spec"]["debug_request"] == second
    assert refused(held(own, pod, ticket)) == (404, "no_pending_request")


def test_somebody_elses_debug_request(own: Coordinator, image: str) -> None:
    wish = own.wish(image, owner="ann@desk")
    answer = own.http.post(TICKET, json={"image": image, "owner": "bob@desk", "request": wish})
    assert refused(answer) == (403, "ticket_scope")
    answer = own.http.post(TICKET, json={"image": "other", "owner": "ann@desk", "request": wish})
    assert refused(answer) == (422, "invalid")
    answer = own.http.post(TICKET, json={"image": image, "request": "none-such"})
    assert refused(answer) == (404, "not_found")


@pytest.mark.parametrize(
    "wish",
    [
        {"ttl": 86_401},
        {"ttl": 0},
        {"methods": []},
        {"methods": ["get"]},
        {"path_prefix": "cart"},
        {"uses": 0},
        {"image": ""},
        {"request": "No Name"},
        {"path_prefix": "/" + "x" * 500, "owner": "o" * 256, "namespace": "n" * 1024, "image": "i" * 512, "ttl": 1}
        | {"methods": ["M" * 32] * 16},
    ],
)
def test_wishes_that_cannot_be_fulfilled(shared: Coordinator, wish: dict[str, Any]) -> None:
    answer = shared.http.post(TICKET, json={"image": "demo/pricing"} | wish)
    assert refused(answer) == (422, "invalid")


def test_scope(own: Coordinator, pod: str, image: str) -> None:
    own.wish(image, owner="ann@desk")
    for wrong in (
        issue(own, "other", owner="ann@desk"),
        issue(own, image, owner="ann@desk", namespace="else"),
        issue(own, image, owner="ann@desk", methods=["POST"]),
        issue(own, image, owner="ann@desk", path_prefix="/admin"),
    ):
        answer = held(own, pod, wrong, held={"method": "GET", "path": "/cart"})
        assert refused(answer) == (403, "ticket_scope")
    assert own.http.get(ATTACHMENTS).json() == []


def test_forged(own: Coordinator, pod: str, image: str) -> None:
    own.wish(image, owner="ann@desk")
    ticket = issue(own, image, owner="ann@desk")
    claims = Verifier(keys(own)).claims(ticket)
    kid = keys(own).keys[0].kid
    forged = sign(claims, Ed25519PrivateKey.generate(), kid)
    assert refused(held(own, pod, forged)) == (403, "ticket_forged")
    assert refused(held(own, pod, sign(claims, Ed25519PrivateKey.generate(), "k"))) == (403, "ticket_unknown_key")
    assert refused(held(own, pod, "1")) == (403, "ticket_malformed")


def test_nobody_can_claim_a_ticket_by_its_name(own: Coordinator, pod: str, image: str) -> None:
    own.wish(image, owner="ann@desk")
    answer = own.attach(pod, match=True, ticket_id="t", owner="ann@desk", debug_request="d")
    assert "ticket_id" not in answer.json()["spec"]


def test_keys_lie_beside_the_database_for_us_alone(own: Coordinator, tmp_path: Path) -> None:
    place = tmp_path / "coordinator.tickets"
    assert not place.exists()
    issue(own, "demo/pricing")
    [key] = place.glob("*.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert key.stem == keys(own).keys[0].kid
    document = own.http.get(f"{TICKET}/keys").json()
    assert document["keys"][0].keys() == {"kty", "crv", "kid", "x", "use", "alg"}


def test_rotated_keys_and_counts_survive_a_crash(tmp_path: Path, pod: str, image: str) -> None:
    with Coordinator(tmp_path) as first:
        old = issue(first, image, owner="ann@desk", uses=2)
        first.wish(image, owner="ann@desk")
        assert held(first, pod, old).status_code == 201
        before = keys(first)
        after = first.http.post(f"{TICKET}/keys/rotate")
        assert after.status_code == 200
        assert [key["kid"] for key in after.json()["keys"]][1:] == [key.kid for key in before.keys]
        new = issue(first, image, owner="ann@desk")
        rotated = keys(first)
        first.end(signal.SIGKILL)
    with Coordinator(tmp_path) as second:
        assert keys(second) == rotated
        for _ in range(2):
            second.wish(image, owner="ann@desk")
        assert held(second, pod, old).status_code == 201
        assert refused(held(second, pod, old)) == (403, "ticket_used")
        assert held(second, pod, new).status_code == 201
        third = second.http.post(f"{TICKET}/keys/rotate", params={"revoke": "true"})
        assert len(third.json()["keys"]) == 1
        assert len(list((tmp_path / "coordinator.tickets").glob("*.key"))) == 1
        assert refused(held(second, pod, issue(second, image) and new)) == (403, "ticket_unknown_key")


def test_an_old_key_goes_when_its_last_ticket_has_expired(tmp_path: Path, pod: str, image: str) -> None:
    with Coordinator(tmp_path, "--ticket-longest", "1", "--clock-skew", "0") as own:
        old = issue(own, image, owner="ann@desk", ttl=1)
        own.http.post(f"{TICKET}/keys/rotate")
        assert len(keys(own).keys) == 2
        own.until(lambda: len(keys(own).keys) == 1, "the end of the old key")
        assert refused(held(own, pod, old)) == (403, "ticket_unknown_key")


def test_a_key_file_that_is_none(own: Coordinator, tmp_path: Path) -> None:
    place = tmp_path / "coordinator.tickets"
    place.mkdir(mode=0o700)
    (place / "broken.key").write_text("{}")
    answer = own.http.post(TICKET, json={"image": "demo/pricing"})
    assert refused(answer) == (503, "store_unavailable")
    assert "broken.key" in answer.json()["message"]
    assert own.attach("none").status_code == 404


def test_a_store_that_forgets_has_keys_too(tmp_path: Path) -> None:
    with Coordinator(tmp_path, "--store", "memory") as own:
        ticket = issue(own, "demo/pricing")
        assert isinstance(Verifier(keys(own)).claims(ticket), Claims)
        assert not (tmp_path / "coordinator.tickets").exists()


def test_a_use_is_refused_beyond_the_scope_and_the_time_of_its_ticket() -> None:
    tickets = Tickets(CoordinatorSettings(store="memory"))
    issued = tickets.issue(TicketWish(image="i", namespace="shop"))
    spec, claims = tickets.read(AttachmentSpec(attachment={"id": "c"}, image="i", ticket=issued.ticket))
    assert claims
    with pytest.raises(ApiError, match="not for a container without one") as nowhere, tickets.used(claims, spec):
        pass
    assert nowhere.value.reason is Reason.TICKET_SCOPE
    spec = replace(spec, attachment={"namespace": "shop"})
    with tickets.used(claims, spec):
        pass
    past = replace(claims, exp=int(time.time()) - 60)
    # Its use is forgotten, so that it would count as new.
    with pytest.raises(ApiError) as late, tickets.used(past, spec):
        pass
    assert late.value.reason is Reason.TICKET_EXPIRED
    tickets.close()

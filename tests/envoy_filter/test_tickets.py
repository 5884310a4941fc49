"""Tickets on a real Envoy with each front end: what does not count is as if it were absent, and counted."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from envoy_filter.front_end import FrontEnd
from envoy_filter.http1 import Http1Client
from envoy_filter.ticket import Keys
from squash.calls import create_request, create_ticket, get_request, patch_attachment, rotate_ticket_keys
from squash.client import AsyncClient
from squash.mark import BAGGAGE
from squash.model import DebugRequest, Outcome, RequestSpec, State, StatusPatch
from squash.reasons import Reason
from squash.result import HEADER, MARK
from squash.tasks import spawn
from squash.ticket import Claims, KeySet, TicketWish, public_key, sign
from tests.envoy_filter.coordinator_double import CoordinatorDouble, refusal
from tests.envoy_filter.http_server import Reply, Request
from tests.envoy_filter.stack import Stack, result, stack
from tests.envoy_filter.test_with_coordinator import container, coordinator
from tests.squash.test_ticket import FORGED

PRIVATE = Ed25519PrivateKey.generate()
REQUIRED = ("--tickets", "required")


def ticket(**changed: Any) -> str:
    now = int(time.time())
    given: dict[str, Any] = {"iss": "squash", "sub": "ann@desk", "jti": "t1", "iat": now, "nbf": now, "exp": now + 600}
    claims = Claims(**(given | {"image": "demo/pricing", "uses": 1} | changed))
    return sign(claims, PRIVATE, "k1")


@contextlib.asynccontextmanager
async def guarded(directory: Path, double: CoordinatorDouble, front_end: FrontEnd, *flags: str) -> AsyncIterator[Stack]:
    """A stack whose sidecar has our key from a file."""
    keys = directory / "keys.json"
    keys.write_bytes(msgspec.json.encode(KeySet(keys=[public_key(PRIVATE, "k1")])))
    more = (*flags, "--ticket-keys", str(keys))
    async with stack(directory, double.url, front_end=front_end, more=more) as held:
        yield held


async def passes(held: Stack, value: str, path: str = "/cart", method: str = "GET") -> None:
    """As a request without a mark: untouched, and with no word on the response."""
    response = await held.http.request(method, held.url + path, headers={MARK: value})
    assert response.status_code == 200
    assert response.headers.get_list(HEADER) == ["nonsense of the upstream"]
    served = held.upstream.requests[-1]
    assert [text for name, text in served.headers if name == MARK] == [value]
    assert BAGGAGE not in dict(served.headers)


def wrong() -> dict[str, tuple[str, Reason]]:
    now = int(time.time())
    return {name: each for name, each in FORGED.items() if name != "empty"} | {
        "empty": ("", Reason.TICKET_MISSING),
        "a plain mark": ("1", Reason.TICKET_MISSING),
        "two parts": ("eyJh.eyJh", Reason.TICKET_MISSING),
        "header not base64": ("eyJ.eyJh.eyJh", Reason.TICKET_MALFORMED),
        "expired": (ticket(exp=now - 31), Reason.TICKET_EXPIRED),
        "too early": (ticket(nbf=now + 60), Reason.TICKET_EARLY),
        "another issuer": (ticket(iss="else"), Reason.TICKET_FOREIGN),
        "another namespace": (ticket(namespace="else"), Reason.TICKET_SCOPE),
        "another method": (ticket(methods=["POST"]), Reason.TICKET_SCOPE),
        "another path": (ticket(path_prefix="/car"), Reason.TICKET_SCOPE),
    }


async def test_whatever_is_no_valid_ticket_is_as_if_absent(
    tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd
) -> None:
    async with guarded(tmp_path, double, front_end, *REQUIRED) as held:
        expected: dict[str, float] = {}
        for value, reason in wrong().values():
            await passes(held, value)
            key = f'squash_tickets_refused_total{{reason="{reason}"}}'
            expected[key] = expected.get(key, 0) + 1
        counted = {name: value for name, value in (await held.metrics()).items() if "refused_total" in name}
        assert counted == expected
        # None of them made a call to the coordinator.
        assert double.calls == []
        assert "eyJ" not in held.sidecar.log


async def test_a_good_ticket_holds_and_goes_on_to_the_next_hop(
    tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd
) -> None:
    async with guarded(tmp_path, double, front_end, *REQUIRED) as held:
        value = ticket(namespace="demo", methods=["GET"], path_prefix="/cart")
        for number, headers in enumerate(({MARK: value}, {BAGGAGE: f"squash={value}"}), 1):
            marked = spawn(held.http.get(f"{held.url}/cart/7?x=1", headers=headers), "get")
            name = (await double.created(number))[-1]
            assert double.attachments[name].spec.ticket == value
            await double.change(name, State.ATTACHED)
            assert result(await marked).outcome is Outcome.ATTACHED
            served = dict(held.upstream.requests[-1].headers)
            assert (served[MARK], served[BAGGAGE]) == (value, f"squash={value}")
        assert value.rsplit(".", 1)[1] not in held.sidecar.log


async def test_optional_tickets(tmp_path: Path, double: CoordinatorDouble) -> None:
    async with guarded(tmp_path, double, FrontEnd.LUA, "--tickets", "optional") as held:
        marked = spawn(held.get(), "get")
        [name] = await double.created()
        assert double.attachments[name].spec.ticket is None
        await double.change(name, State.ATTACHED)
        assert result(await marked).outcome is Outcome.ATTACHED
        await passes(held, FORGED["another key"][0])
        assert len(double.attachments) == 1


async def test_tickets_are_off_and_a_ticket_is_a_mark_like_any_other(tmp_path: Path, double: CoordinatorDouble) -> None:
    async with guarded(tmp_path, double, FrontEnd.LUA) as held:
        marked = spawn(held.get(headers={MARK: FORGED["another key"][0]}), "get")
        [name] = await double.created()
        assert double.attachments[name].spec.ticket is None
        await double.change(name, State.ATTACHED)
        assert result(await marked).outcome is Outcome.ATTACHED


async def test_clock_skew_and_issuer_are_settings(tmp_path: Path, double: CoordinatorDouble) -> None:
    flags = (*REQUIRED, "--clock-skew", "120", "--ticket-issuer", "else")
    async with guarded(tmp_path, double, FrontEnd.LUA, *flags) as held:
        now = int(time.time())
        await passes(held, ticket(iss="else", exp=now - 121))
        await passes(held, ticket(exp=now + 60))
        marked = spawn(held.get(headers={MARK: ticket(iss="else", exp=now - 60)}), "get")
        [name] = await double.created()
        await double.change(name, State.ATTACHED)
        assert result(await marked).outcome is Outcome.ATTACHED


async def test_used_up_tickets_tell_why_nobody_is_held(
    tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd
) -> None:
    async def used(request: Request) -> Reply:
        return refusal(403, Reason.TICKET_USED)

    double.instead["create"] = used
    async with guarded(tmp_path, double, front_end, *REQUIRED) as held:
        said = result(await held.get(headers={MARK: ticket()}))
        assert (said.outcome, said.reason) == (Outcome.NO_MATCH, Reason.TICKET_USED)


class Shop:
    """The real coordinator, and a stack that takes tickets alone."""

    def __init__(self, client: AsyncClient, held: Stack) -> None:
        self.client = client
        self.held = held

    async def wish(self, owner: str) -> str:
        spec = RequestSpec(image="demo/pricing", debugger="", owner=owner)
        return (await self.client.send(create_request(DebugRequest(spec=spec)))).name

    async def ticket(self, owner: str, **wish: Any) -> str:
        asked = TicketWish(image="demo/pricing", owner=owner, **wish)
        return (await self.client.send(create_ticket(asked))).ticket

    async def meets(self, value: str, wish: str) -> None:
        """A request with the ticket is held for this debug request and no other."""
        marked = spawn(self.held.get(headers={MARK: value}), "get")
        found = await self.client.send(get_request(wish, wait=30))
        name = found.status.debug_attachment_ref
        assert name is not None
        await self.client.send(patch_attachment(name, StatusPatch(state=State.ATTACHED)))
        said = result(await marked)
        assert (said.outcome, said.id) == (Outcome.ATTACHED, name)


@pytest.fixture
async def shop(tmp_path: Path, front_end: FrontEnd) -> AsyncIterator[Shop]:
    async with (
        container(tmp_path),
        coordinator(tmp_path) as (_, url),
        AsyncClient(url) as client,
        stack(tmp_path, url, front_end=front_end, more=REQUIRED) as held,
    ):
        yield Shop(client, held)


async def test_two_developers_a_replay_and_a_rotation_while_it_runs(shop: Shop) -> None:
    wishes = {who: await shop.wish(who) for who in ("ann@desk", "bob@desk")}
    bob, ann = await shop.ticket("bob@desk"), await shop.ticket("ann@desk", uses=3)
    await shop.meets(bob, wishes["bob@desk"])
    await shop.meets(ann, wishes["ann@desk"])
    await shop.wish("bob@desk")
    said = result(await shop.held.get(headers={MARK: bob}))
    assert (said.outcome, said.reason) == (Outcome.NO_MATCH, Reason.TICKET_USED)
    await shop.client.send(rotate_ticket_keys())
    fresh = await shop.ticket("ann@desk")
    # So long are unknown keys not asked for again.
    async with asyncio.timeout(30):
        second = await shop.wish("ann@desk")
        while not (await shop.client.send(get_request(second))).status.debug_attachment_ref:
            marked = spawn(shop.held.get(headers={MARK: fresh}), "get")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(marked), 1)
    name = (await shop.client.send(get_request(second))).status.debug_attachment_ref
    assert name is not None
    await shop.client.send(patch_attachment(name, StatusPatch(state=State.ATTACHED)))
    assert result(await marked).outcome is Outcome.ATTACHED
    # One of before the rotation is good until it expires.
    await shop.meets(ann, await shop.wish("ann@desk"))
    await shop.client.send(rotate_ticket_keys(revoke=True))
    said = result(await shop.held.get(headers={MARK: ann}))
    assert (said.outcome, said.reason) == (Outcome.NO_MATCH, Reason.TICKET_UNKNOWN_KEY)


async def test_keys_are_logged_when_they_are_others(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    file = tmp_path / "keys.json"
    client = Http1Client("http://127.0.0.1:9")
    keys = Keys(client, file, timeout=1.0)
    for number, kid in enumerate(("k1", "k1", "k2"), 1):
        file.write_bytes(msgspec.json.encode(KeySet(keys=[public_key(PRIVATE, kid)])))
        os.utime(file, (number, number))
        await keys.refresh(within=0.0)
        assert keys.verifier.kids == {kid}
    assert [getattr(record, "fields", {}).get("kids") for record in caplog.records] == ["k1", "k2"]
    client.close()

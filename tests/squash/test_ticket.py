"""Tickets, pure: what verifies, and all that must not."""

import base64
import hashlib
import hmac
import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from squash.model import AttachmentSpec
from squash.reasons import Reason
from squash.ticket import (
    TYPE,
    Claims,
    IssuedTicket,
    Key,
    KeySet,
    Rules,
    TicketError,
    Verifier,
    check,
    check_container,
    check_request,
    covers,
    looks_signed,
    public_key,
    read_keys,
    sign,
    table,
    unverified,
)

PRIVATE = Ed25519PrivateKey.generate()
VERIFIER = Verifier(KeySet(keys=[public_key(PRIVATE, "k1")]))
RULES = Rules("squash", 10.0)


def claims(**changed: Any) -> Claims:
    given: dict[str, Any] = {"iss": "squash", "sub": "ann@desk", "jti": "t1", "iat": 1000, "nbf": 1000, "exp": 2000}
    return Claims(**(given | {"image": "demo/pricing", "uses": 1} | changed))


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


GOOD = sign(claims(), PRIVATE, "k1")
HEADER, PAYLOAD, SIGNATURE = GOOD.split(".")


def hs256_with_the_public_key() -> str:
    head = part({"alg": "HS256", "typ": TYPE, "kid": "k1"})
    mac = hmac.new(PRIVATE.public_key().public_bytes_raw(), f"{head}.{PAYLOAD}".encode(), hashlib.sha256).digest()
    return f"{head}.{PAYLOAD}.{part(mac)}"


FORGED = {
    "alg none": (f"{part({'alg': 'none', 'typ': TYPE, 'kid': 'k1'})}.{PAYLOAD}.", Reason.TICKET_FORGED),
    "HS256 with the public key": (hs256_with_the_public_key(), Reason.TICKET_FORGED),
    "another key": (sign(claims(), Ed25519PrivateKey.generate(), "k1"), Reason.TICKET_FORGED),
    "another type": (
        f"{part({'alg': 'EdDSA', 'typ': 'JWT', 'kid': 'k1'})}.{PAYLOAD}.{SIGNATURE}",
        Reason.TICKET_FORGED,
    ),
    "another payload": (f"{HEADER}.{part({'image': '*'})}.{SIGNATURE}", Reason.TICKET_FORGED),
    "no signature": (f"{HEADER}.{PAYLOAD}.", Reason.TICKET_FORGED),
    "wrong kid": (sign(claims(), PRIVATE, "k2"), Reason.TICKET_UNKNOWN_KEY),
    "truncated": (GOOD[:-10], Reason.TICKET_FORGED),
    "two parts": (f"{HEADER}.{PAYLOAD}", Reason.TICKET_MALFORMED),
    "detached payload": (
        f"{part({'alg': 'EdDSA', 'typ': TYPE, 'kid': 'k1', 'b64': False, 'crit': ['b64']})}..{SIGNATURE}",
        Reason.TICKET_MALFORMED,
    ),
    "too long": (f"{HEADER}.{'A' * 5000}.{SIGNATURE}", Reason.TICKET_MALFORMED),
    "empty": ("", Reason.TICKET_MALFORMED),
    "a plain mark": ("1", Reason.TICKET_MALFORMED),
    "header not base64": (f"eyJ.{PAYLOAD}.{SIGNATURE}", Reason.TICKET_MALFORMED),
}


def test_a_ticket_says_what_was_signed() -> None:
    assert VERIFIER.claims(GOOD) == claims()
    assert looks_signed(GOOD)
    assert unverified(GOOD) == claims()


@pytest.mark.parametrize(("value", "reason"), FORGED.values(), ids=FORGED)
def test_forged(value: str, reason: Reason) -> None:
    with pytest.raises(TicketError) as refused:
        VERIFIER.claims(value)
    assert refused.value.reason is reason
    assert refused.value.claims is None
    assert value == "" or value not in str(refused.value)


@given(st.integers(0, len(GOOD) - 1), st.sampled_from("ABCDwxyz0189-_."))
def test_no_character_can_be_changed(place: int, other: str) -> None:
    changed = GOOD[:place] + other + GOOD[place + 1 :]
    try:
        found = VERIFIER.claims(changed)
    except TicketError:
        return
    # The last character of each part has bits that mean nothing.
    assert found == claims()


@given(st.text(max_size=80))
def test_any_text_is_refused_in_words(text: str) -> None:
    looks_signed(text)
    for read in (VERIFIER.claims, unverified):
        with pytest.raises(TicketError):
            read(text)


@pytest.mark.parametrize("payload", [{}, {"image": 5}, [], b"\xff", {"iss": "squash", "sub": ""}])
def test_signed_but_no_ticket(payload: object) -> None:
    head = part({"alg": "EdDSA", "typ": TYPE, "kid": "k1"})
    message = f"{head}.{part(payload)}"
    with pytest.raises(TicketError) as refused:
        VERIFIER.claims(f"{message}.{part(PRIVATE.sign(message.encode()))}")
    assert refused.value.reason is Reason.TICKET_MALFORMED


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (989.9, Reason.TICKET_EARLY),
        (990, None),
        (1500, None),
        (2009.9, None),
        (2010, Reason.TICKET_EXPIRED),
    ],
)
def test_clocks_may_differ_by_the_skew(now: float, reason: Reason | None) -> None:
    if reason is None:
        check(claims(), RULES, now)
        return
    with pytest.raises(TicketError) as refused:
        check(claims(), RULES, now)
    assert (refused.value.reason, refused.value.claims) == (reason, claims())


def test_another_issuer() -> None:
    with pytest.raises(TicketError) as refused:
        check(claims(iss="else"), RULES, 1500)
    assert refused.value.reason is Reason.TICKET_FOREIGN


@pytest.mark.parametrize(
    ("scope", "method", "path", "fits"),
    [
        ({}, None, None, True),
        ({"methods": ["GET", "POST"]}, "POST", "/", True),
        ({"methods": ["GET"]}, "POST", "/", False),
        ({"methods": ["GET"]}, None, "/", False),
        ({"path_prefix": "/cart"}, "GET", "/cart?x=/..", True),
        ({"path_prefix": "/cart"}, "GET", "/carts", False),
        ({"path_prefix": "/cart"}, "GET", None, False),
    ],
)
def test_scope_of_the_request(scope: dict[str, Any], method: str | None, path: str | None, fits: bool) -> None:
    if fits:
        check_request(claims(**scope), method, path)
        return
    with pytest.raises(TicketError) as refused:
        check_request(claims(**scope), method, path)
    assert refused.value.reason is Reason.TICKET_SCOPE


@pytest.mark.parametrize(
    ("prefix", "path", "fits"),
    [
        ("/", "/anything", True),
        ("/a/", "/a/b", True),
        ("/a/", "/a", False),
        ("/a", "/a/b/c?q=1", True),
        ("/a", "/b/a", False),
        ("/a", "/a/../b", False),
        ("/a", "/a/%2e%2e/b", False),
        ("/a", "/a/%2E./b", False),
        ("/a", "/a/..%2fb", False),
        ("/a", "/a/..\\b", False),
        ("/a", "/a/.", False),
        ("/a", "/a/...", True),
        ("/a", "/a/%252e%252e/b", False),
        ("/a", "/a/%25252e./b", False),
        ("/a", "/a/%2525252525252525252e./b", False),
        ("/a", "/a/100%25", True),
        ("/a", "/a/..;/b", False),
        ("/a", "/a/..;x=1/b", False),
        ("/a", "/a/..%3bx/b", False),
        ("/a", "/a/b;x=..", True),
        ("/a", "/a/" + "b" * 2044, True),
        ("/a", "/a/" + "b" * 2045, False),
        ("/a", "/a/b?" + "q" * 2043, True),
    ],
)
def test_a_path_lies_under_a_prefix(prefix: str, path: str, fits: bool) -> None:
    assert covers(prefix, path) is fits


@pytest.mark.parametrize(
    ("image", "namespace", "fits"),
    [
        (None, None, True),
        ("demo/pricing", "shop", True),
        ("demo/other", "shop", False),
        ("demo/pricing", "else", False),
        (None, "else", False),
        ("demo/pricing", "", False),
    ],
)
def test_scope_of_the_container(image: str | None, namespace: str | None, fits: bool) -> None:
    ticket = claims(namespace="shop")
    if fits:
        check_container(ticket, image, namespace)
        return
    with pytest.raises(TicketError) as refused:
        check_container(ticket, image, namespace)
    assert refused.value.reason is Reason.TICKET_SCOPE


def test_keys_of_other_kinds_are_passed_over() -> None:
    found = read_keys(b'{"keys": [{"kty": "RSA", "kid": "r", "n": "x"}, {"kty": "OKP", "crv": "X25519", "x": ""}]}')
    assert Verifier(found).kids == frozenset()


@pytest.mark.parametrize("x", ["", "AAAA", "not base64"])
def test_a_key_that_cannot_be_used(x: str) -> None:
    with pytest.raises(TicketError, match="is no Ed25519 key"):
        Verifier(KeySet(keys=[Key(kty="OKP", crv="Ed25519", kid="k", x=x)]))


@pytest.mark.parametrize("document", [b"", b"[]", b'{"keys": 1}', b"\xff"])
def test_no_jwks(document: bytes) -> None:
    with pytest.raises(TicketError, match="expected a JWKS"):
        read_keys(document)


def test_nothing_shows_the_ticket() -> None:
    spec = AttachmentSpec(attachment={"pod": "p"}, ticket=GOOD, image="demo/pricing")
    issued = IssuedTicket(ticket=GOOD, kid="k1", claims=claims())
    for shown in (repr(spec), str(spec), repr(issued), f"{issued}"):
        assert SIGNATURE not in shown
        assert "demo/pricing" in shown
    assert msgspec.json.decode(msgspec.json.encode(spec), type=AttachmentSpec) == spec


def test_in_words() -> None:
    said = table(claims(methods=["GET", "PUT"], path_prefix="/a"))
    assert (said["developer"], said["methods"], said["path"]) == ("ann@desk", "GET, PUT", "/a and below")
    assert "namespace" not in said

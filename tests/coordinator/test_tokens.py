"""Tokens are recognised by their hash, for their time, until they are revoked."""

import asyncio
import hashlib
import re
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.access import Access
from coordinator.board import Board, Policy
from coordinator.records import Records
from coordinator.sightings import Sightings
from coordinator.stores.memory import MemoryStore
from coordinator.tokens import MOST_PASSING, SHOWN_AFTER, Tokens
from squash.access import Role, Token
from squash.errors import ApiError
from squash.reasons import Reason
from squash.settings import CoordinatorSettings
from squash.tasks import spawn

NOW = 1_000.0


def token(role: Role = Role.DEVELOPER, subject: str = "ann", **more: object) -> Token:
    return msgspec.structs.replace(Token(id="", role=role, subject=subject, created=NOW, expires=NOW + 100), **more)


def made(tokens: Tokens, wanted: Token | None = None) -> tuple[Token, str]:
    kept, text = tokens.made(wanted or token())
    tokens.put(kept)
    return kept.token, text


def refused(tokens: Tokens, text: str, now: float = NOW) -> Reason:
    with pytest.raises(ApiError) as error:
        tokens.find(text, now)
    assert error.value.code == 401
    assert text not in error.value.message or len(text) < 10
    return error.value.reason


def test_form_and_what_is_kept() -> None:
    tokens = Tokens()
    kept, text = tokens.made(token())
    assert re.fullmatch(r"squash_[0-9a-f]{16}_[0-9a-f]{64}", text)
    assert kept.token.id == text.split("_")[1]
    assert kept.hash == hashlib.sha256(text.encode()).hexdigest()
    assert text.split("_")[2] not in msgspec.json.encode(kept).decode()
    assert refused(tokens, text) is Reason.UNAUTHENTICATED, "not known before it is put"
    tokens.put(kept)
    assert tokens.find(text, NOW) == kept.token
    assert len({tokens.made(token())[1] for _ in range(100)}) == 100


def test_one_that_is_nearly_right_is_wrong() -> None:
    tokens = Tokens()
    _, text = made(tokens)
    other, theirs = made(tokens)
    assert refused(tokens, text[:-1] + ("0" if text[-1] != "0" else "1")) is Reason.UNAUTHENTICATED
    assert refused(tokens, f"squash_{other.id}_{text.split('_')[2]}") is Reason.UNAUTHENTICATED
    assert refused(tokens, theirs[:-1]) is Reason.UNAUTHENTICATED
    assert refused(tokens, theirs.upper()) is Reason.UNAUTHENTICATED
    assert refused(tokens, f"{theirs}\n") is Reason.UNAUTHENTICATED


@given(st.text())
def test_no_text_breaks_it(text: str) -> None:
    tokens = Tokens()
    made(tokens)
    assert refused(tokens, text) is Reason.UNAUTHENTICATED


def test_expiry_and_revocation() -> None:
    tokens = Tokens()
    first, text = made(tokens)
    assert tokens.find(text, first.expires - 0.001) == first
    assert refused(tokens, text, first.expires) is Reason.TOKEN_EXPIRED
    kept = tokens.revoked(first.id, NOW + 1)
    assert tokens.find(text, NOW + 1) == first, "only asked, not done"
    tokens.put(kept)
    assert refused(tokens, text, NOW + 1) is Reason.TOKEN_REVOKED
    assert tokens.revoked(first.id, NOW + 50).token.revoked == NOW + 1
    for call in (tokens.get, lambda name: tokens.revoked(name, NOW)):
        with pytest.raises(ApiError) as error:
            call("unknown")
        assert error.value.code == 404


def test_what_was_kept_comes_back() -> None:
    first = Tokens()
    kept, text = first.made(token(Role.AGENT, "node-7", node="n7"))
    again = Tokens()
    again.load([kept])
    assert again.find(text, NOW).node == "n7"
    assert again.listed() == [kept.token]


def test_ended_ones_are_forgotten_after_a_while() -> None:
    tokens = Tokens()
    short, _ = made(tokens)
    long, _ = made(tokens, token(expires=NOW + 10 * SHOWN_AFTER))
    assert list(tokens.forgotten(short.expires + SHOWN_AFTER - 1)) == []
    assert list(tokens.forgotten(short.expires + SHOWN_AFTER + 1)) == [short.id]
    assert tokens.listed() == [long]


def test_whether_there_is_an_admin() -> None:
    tokens = Tokens()
    made(tokens)
    assert not tokens.has_admin(NOW)
    admin, _ = made(tokens, token(Role.ADMIN))
    assert tokens.has_admin(NOW)
    assert not tokens.has_admin(admin.expires)
    tokens.put(tokens.revoked(admin.id, NOW))
    assert not tokens.has_admin(NOW)


def test_token_that_was_made_elsewhere() -> None:
    tokens = Tokens()
    text = f"squash_{'a' * 16}_{'b' * 64}"
    tokens.put(tokens.adopted(token(Role.ADMIN), text))
    assert tokens.find(text, NOW).id == "a" * 16
    with pytest.raises(ValueError, match="expected squash_ID_SECRET"):
        tokens.adopted(token(), "secret")


def test_passing_ones_end_with_their_parent() -> None:
    tokens = Tokens()
    parent, _ = made(tokens)
    text = tokens.pass_on(token(attachment="a", parent=parent.id, expires=NOW + 60), NOW)
    assert tokens.find(text, NOW).attachment == "a"
    assert tokens.listed() == [parent]
    assert refused(tokens, text, NOW + 60) is Reason.TOKEN_EXPIRED
    tokens.put(tokens.revoked(parent.id, NOW))
    assert refused(tokens, text) is Reason.TOKEN_REVOKED
    orphan = tokens.pass_on(token(attachment="a", parent="unknown"), NOW)
    assert refused(tokens, orphan) is Reason.TOKEN_EXPIRED


def test_passing_ones_end_with_their_attachment() -> None:
    tokens = Tokens()
    parent, _ = made(tokens)
    gone, there = (tokens.pass_on(token(attachment=name, parent=parent.id), NOW) for name in "ab")
    tokens.drop_passing("a")
    assert refused(tokens, gone) is Reason.UNAUTHENTICATED
    assert tokens.find(there, NOW).attachment == "b"


def test_passing_ones_are_bounded_and_forgotten() -> None:
    tokens = Tokens()
    first = tokens.pass_on(token(expires=NOW + 60), NOW)
    for _ in range(MOST_PASSING - 1):
        tokens.pass_on(token(expires=NOW + 60), NOW)
    with pytest.raises(ApiError) as error:
        tokens.pass_on(token(expires=NOW + 60), NOW)
    assert (error.value.code, error.value.reason) == (429, Reason.LIMIT_REACHED)
    tokens.pass_on(token(subject="bob", expires=NOW + 60), NOW)
    tokens.pass_on(token(expires=NOW + 120), NOW + 60)
    assert refused(tokens, first, NOW + 60) is Reason.UNAUTHENTICATED


async def test_ended_ones_go_while_the_coordinator_runs() -> None:
    store, settings = MemoryStore(), CoordinatorSettings()
    access = Access(store, required=True)
    made(access.tokens)
    living, _ = made(access.tokens, token(expires=time.time() + 60))
    board = Board(Policy(settings.request_ttl, settings.retention), lambda: "name")
    trimming = spawn(Records(board, store, Sightings(1), access, settings).keep_trimmed(), "retention")
    await asyncio.sleep(0)
    assert access.tokens.listed() == [living]
    trimming.cancel()

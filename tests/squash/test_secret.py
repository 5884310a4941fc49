"""A secret shows itself to nobody who does not ask for it by name."""

import json
import pickle

import msgspec
import pytest

from squash.access import IssuedToken, Role, Token
from squash.secret import Secret

TEXT = "squash_0123_abcdef"


def test_only_reveal_shows_it() -> None:
    secret = Secret(f" {TEXT}\n")
    assert secret.reveal() == TEXT
    for shown in (str(secret), repr(secret), f"{secret}", f"{secret!r:>40}", repr({"a": [secret]})):
        assert TEXT not in shown
        assert "abcdef" not in shown
    assert not hasattr(secret, "__dict__")
    assert json.dumps({"secret": secret}, default=str) == '{"secret": "******"}'
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        msgspec.json.encode(secret)


def test_equal_ones() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a")}) == 1


@pytest.mark.parametrize("text", ["", " ", "hush hush", "hush\x00", "hüsh", "hush\r\nx: y", "hush" * 2_000])
def test_what_cannot_go_into_a_header(text: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII") as refused:
        Secret(text)
    assert "sh" not in str(refused.value)


def test_answer_with_a_secret_hides_it_from_logs() -> None:
    token = Token(id="i", role=Role.VIEWER, subject="ann", created=0, expires=1)
    issued = IssuedToken(token=token, secret=TEXT)
    assert TEXT not in repr(issued) + str(issued)
    assert TEXT in msgspec.json.encode(issued).decode()

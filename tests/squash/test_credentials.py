"""What goes along with a call, and what is exchanged while a program runs."""

import ssl
from pathlib import Path

import pytest

from squash.credentials import Credentials
from squash.errors import SettingError
from squash.secret import Secret
from tests.squash.authority import Authority

HERE = "http://127.0.0.1:1"
ABROAD = "http://coordinator.example:8602"


def test_nothing_is_shown_without_any() -> None:
    none = Credentials(HERE)
    assert (none.headers(), none.context(), none.shown) == ({}, None, False)


def test_token_goes_into_a_header_and_nowhere_else() -> None:
    some = Credentials(HERE, token=Secret("hush"))
    assert some.shown
    assert some.headers() == {"authorization": "Bearer hush"}
    assert "hush" not in repr(some)


def test_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    some = Credentials(HERE, token_file=file)
    assert some.headers() == {"authorization": "Bearer first"}
    new = tmp_path / "new"
    new.write_text("second")
    new.replace(file)
    assert some.headers() == {"authorization": "Bearer second"}
    file.unlink()
    assert some.headers() == {"authorization": "Bearer second"}
    file.write_text("not a token")
    assert some.headers() == {"authorization": "Bearer second"}
    file.write_text("third")
    assert some.headers() == {"authorization": "Bearer third"}


def test_token_wins_over_its_file(tmp_path: Path) -> None:
    some = Credentials(HERE, token=Secret("given"), token_file=tmp_path / "missing")
    assert some.headers() == {"authorization": "Bearer given"}


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"token_file = .*missing' cannot be read: No such file"):
        Credentials(HERE, token_file=tmp_path / "missing")
    spoiled = tmp_path / "spoiled"
    spoiled.write_text("two words")
    with pytest.raises(SettingError, match=r"token_file = .*spoiled' holds no token") as refused:
        Credentials(HERE, token_file=spoiled)
    assert "two words" not in str(refused.value)
    with pytest.raises(SettingError, match=r"tls_ca = .*missing' cannot be used"):
        Credentials("https://127.0.0.1:1", tls_ca=tmp_path / "missing")
    with pytest.raises(SettingError, match=r"tls_certificate = .*spoiled' cannot be used"):
        Credentials("https://127.0.0.1:1", tls_certificate=spoiled)
    with pytest.raises(SettingError, match="without tls_certificate"):
        Credentials("https://127.0.0.1:1", tls_key=spoiled)


@pytest.mark.parametrize("url", ["http://localhost:1", "http://127.8.8.8:1", "http://[::1]:1", "https://example:1"])
def test_token_may_go_where_nobody_else_reads_it(url: str) -> None:
    assert Credentials(url, token=Secret("hush")).headers()


def test_token_stays_here_unless_told_otherwise(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("hush")
    for token, token_file in ((Secret("hush"), None), (None, file)):
        with pytest.raises(SettingError, match="where others can read it: use https") as refused:
            Credentials(ABROAD, token=token, token_file=token_file)
        assert "hush" not in str(refused.value)
    assert Credentials(ABROAD, token=Secret("hush"), insecure=True).headers()
    assert not Credentials(ABROAD).headers()


def test_certificate_is_loaded_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    own = authority.sign("own", who="first")
    some = Credentials("https://127.0.0.1:1", tls_ca=authority.path, tls_certificate=own)
    assert some.shown
    context = some.context()
    assert isinstance(context, ssl.SSLContext)
    loads: list[Path] = []
    monkeypatch.setattr(context, "load_cert_chain", lambda path, key: loads.append(path))
    assert some.context() is context
    assert loads == []
    authority.sign("own", who="second")
    assert some.context() is context
    assert loads == [own]

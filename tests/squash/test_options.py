"""Settings by flag, environment and file."""

import contextlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash import __version__
from squash.errors import SettingError
from squash.options import Address, convert, load, load_or_exit, rows, setting
from squash.secret import Secret
from squash.settings import Count, Positive


class Crust(StrEnum):
    THIN = "thin"
    THICK = "thick"


@dataclass(frozen=True)
class Oven:
    listen: Address = setting(Address("127.0.0.1", 80), "where it is")
    heat: Positive = setting(180.0, "how hot; 100 % is too much")
    trays: Count = setting(2, "how many")
    names: tuple[str, ...] = setting(("a", "b"), "whose")
    mode: Literal["fan", "grill"] = setting("fan", "how", env="OVEN_MODE")
    crust: Crust | None = setting(None, "of what is in it")
    book: Path = setting(Path("/tmp/book"), "what from", stated="a book")  # noqa: S108 - never opened


@dataclass(frozen=True)
class Needy:
    must: str = setting(help="it has no default")


def read(*argv: str, **environ: str) -> Oven:
    return load(Oven, "oven", "Bakes.", argv, environ)


@dataclass(frozen=True)
class Hatch:
    extra: Address | None = setting(None, "another way in")


def test_address_that_may_be_left_out() -> None:
    assert load(Hatch, "hatch", "Opens.", (), {}) == Hatch(None)
    assert load(Hatch, "hatch", "Opens.", ("--extra", "[::1]:5"), {}) == Hatch(Address("::1", 5))
    with pytest.raises(SettingError, match=r"extra = 'door' .from --extra. cannot be used: expected HOST:PORT"):
        load(Hatch, "hatch", "Opens.", ("--extra", "door"), {})


def test_defaults() -> None:
    assert read() == Oven()


def test_flag_over_environment_over_file(tmp_path: Path) -> None:
    file = tmp_path / "squash.toml"
    file.write_text('[oven]\nheat = 100\ntrays = 5\nnames = ["x"]\nmode = "grill"\n[agent]\nx = 1\n')
    oven = read("--config", str(file), "--heat", "250.5", SQUASH_OVEN_TRAYS="4", SQUASH_OVEN_HEAT="1")
    assert oven == Oven(heat=250.5, trays=4, names=("x",), mode="grill")
    assert read(SQUASH_CONFIG=str(file)).trays == 5
    assert read(SQUASH_OVEN_TRAYS="").trays == 2


def test_every_kind_of_value() -> None:
    oven = read("--listen", "[::1]:0", "--trays", "3", "--names", "x, y,,z", "--book", "b/c", OVEN_MODE="grill")
    assert oven == Oven(Address("::1", 0), trays=3, names=("x", "y", "z"), mode="grill", book=Path("b/c"))
    assert isinstance(oven.book, Path)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--heat", "hot"), "heat = 'hot' (from --heat) cannot be used: expected a number above 0, at most 86400"),
        (("--heat", "0"), "heat = '0' (from --heat) cannot be used"),
        (("--heat", "nan"), "heat = 'nan' (from --heat) cannot be used"),
        (("--heat", "1e9"), "heat = '1e9'"),
        (("--trays", "1.5"), "trays = '1.5' (from --trays) cannot be used: expected a whole number from 1 to 1000000"),
        (("--trays", "0"), "trays = '0'"),
        (("--mode", "boil"), "mode = 'boil' (from --mode) cannot be used: expected one of fan, grill"),
        (("--crust", "burnt"), "crust = 'burnt' (from --crust) cannot be used: expected one of thin, thick"),
        (("--listen", "80"), "expected HOST:PORT"),
    ],
)
def test_a_bad_value_names_key_value_and_source(argv: tuple[str, ...], said: str) -> None:
    with pytest.raises(SettingError) as caught:
        read(*argv)
    assert said in str(caught.value)


def test_a_bad_variable_and_a_bad_line_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="from SQUASH_OVEN_TRAYS"):
        read(SQUASH_OVEN_TRAYS="many")
    file = tmp_path / "squash.toml"
    for text, said in (
        ("[oven]\ntrays = -1", f"trays = -1 (from {file})"),
        ("[oven]\nnames = 3", "names = 3"),
        ("[oven]\nheats = 1", f"oven.heats in {file} is no setting; known are book, crust, heat"),
        ("[overn]\nheat = 1", f"overn in {file} is no table of settings; known are [coordinator], [agent], [sidecar],"),
        ('heat = 1\n[oven]\nmode = "fan"', f"heat in {file} is no table of settings"),
        ("oven = 1", "expected a table [oven]"),
        ("[oven", "is not TOML"),
    ):
        file.write_text(text)
        with pytest.raises(SettingError) as caught:
            read("--config", str(file))
        assert said in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"cannot read .*: No such file"):
        read("--config", str(tmp_path / "none.toml"))
    with pytest.raises(SettingError, match=r"cannot read .*: Is a directory"):
        read("--config", str(tmp_path))


def test_what_must_be_given() -> None:
    with pytest.raises(SettingError, match="must is missing: give --must or SQUASH_NEEDY_MUST"):
        load(Needy, "needy", "Wants.", [], {})
    assert load(Needy, "needy", "Wants.", ["--must", "x"], {}) == Needy("x")


def test_help_shows_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read("--help")
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for row in rows(Oven, "oven"):
        assert row.flag in shown
        assert row.env in shown
    assert "100 % is too much (env SQUASH_OVEN_HEAT, default 180.0)" in shown


def test_version_and_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        read("--version")
    assert capsys.readouterr().out == f"squash {__version__}\n"
    with pytest.raises(SystemExit) as caught:
        read("--hea", "1")
    assert caught.value.code == 2


def test_a_program_ends_with_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        load_or_exit(Oven, "oven", "Bakes.", ["--heat", "hot"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("squash-oven: heat = 'hot' (from --heat) cannot be used")
    assert said.count("\n") == 1


def test_a_program_warns_of_a_variable_that_is_misspelt(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUASH_SERVER", "http://x")
    load_or_exit(Oven, "oven", "Bakes.", [])
    said = capsys.readouterr().err
    assert said == (
        "squash-oven: the environment variable SQUASH_SERVER is not known and has no effect; "
        "did you mean SQUASH_SERVER_URL?\n"
    )


def test_a_default_of_this_machine_is_stated_otherwise_in_the_docs() -> None:
    book = next(row for row in rows(Oven, "oven") if row.key == "book")
    assert (book.default, book.stated) == (str(Oven().book), "a book")
    heat = next(row for row in rows(Oven, "oven") if row.key == "heat")
    assert heat.default == heat.stated == "180.0"


HOSTS = st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True) | st.ip_addresses().map(str)


@given(HOSTS, st.integers(0, 65_535))
def test_addresses_survive_as_text(host: str, port: int) -> None:
    address = Address(host, port)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("text", ["", ":", "host", "host:", ":80", "[]:80", "host:-1", "host:65536", "host:8o", "h:²"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        Address.parse(text)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for wanted in (Address, Positive, Count, tuple[str, ...], Path, Literal["a"]):
        with contextlib.suppress(SettingError):
            convert(text, wanted, "key", "--key")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_what_only_this_machine_reaches(host: str) -> None:
    assert Address(host, 1).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example", "localhost.example", "fe80::1"])
def test_what_other_machines_reach(host: str) -> None:
    assert not Address(host, 1).is_loopback


@dataclass(frozen=True)
class Vault:
    code: Secret | None = setting(None, "what opens it")
    locked: bool = setting(False, "whether it is shut")


def test_secret_has_no_flag_and_is_never_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "squash.toml"
    file.write_text('[vault]\ncode = "from-file"\n')
    vault = load(Vault, "vault", "Keeps.", ("--config", str(file)), {"SQUASH_VAULT_CODE": "from-environment"})
    assert vault.code
    assert vault.code.reveal() == "from-environment"
    assert "from-environment" not in f"{vault!r} {vault}"
    assert load(Vault, "vault", "Keeps.", ("--config", str(file)), {}).code == Secret("from-file")
    with pytest.raises(SystemExit):
        load(Vault, "vault", "Keeps.", ("--code", "x"), {})
    assert "--code" in capsys.readouterr().err
    with pytest.raises(SettingError) as refused:
        load(Vault, "vault", "Keeps.", (), {"SQUASH_VAULT_CODE": "with spaces in it"})
    assert "code (from SQUASH_VAULT_CODE) cannot be used" in str(refused.value)
    assert "spaces in it" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_switch_needs_no_value() -> None:
    assert not load(Vault, "vault", "Keeps.", (), {}).locked
    assert load(Vault, "vault", "Keeps.", ("--locked",), {}).locked
    assert not load(Vault, "vault", "Keeps.", ("--locked", "false"), {"SQUASH_VAULT_LOCKED": "true"}).locked
    assert load(Vault, "vault", "Keeps.", (), {"SQUASH_VAULT_LOCKED": "true"}).locked
    with pytest.raises(
        SettingError, match=r"locked = 'perhaps' .from --locked. cannot be used: expected true or false"
    ):
        load(Vault, "vault", "Keeps.", ("--locked", "perhaps"), {})

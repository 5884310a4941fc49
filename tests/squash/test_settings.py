"""The settings of every program: documented, named alike, and the same on every machine as far as they can be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from squash import settings
from squash.options import rows
from squash.settings import AgentSettings, CoordinatorSettings, SidecarSettings, SquashctlSettings

ALL = {
    "coordinator": CoordinatorSettings,
    "agent": AgentSettings,
    "sidecar": SidecarSettings,
    "squashctl": SquashctlSettings,
}


@pytest.mark.parametrize(("program", "cls"), ALL.items())
def test_each_is_documented(program: str, cls: type) -> None:
    for row in rows(cls, program):
        assert len(row.help) > 10
        assert not row.help.endswith(".")
        assert row.env.startswith("SQUASH") or row.env == "DOCKER_HOST"
        assert row.flag == ("" if row.key == "token" else "--" + row.key.replace("_", "-"))
        assert row.stated


def test_one_setting_names_the_coordinator_everywhere() -> None:
    for program, cls in ALL.items():
        if program != "coordinator":
            row = next(row for row in rows(cls, program) if row.key == "server_url")
            assert (row.env, row.default) == ("SQUASH_SERVER_URL", settings.DEFAULT_SERVER_URL)
        if program != "coordinator":
            named = {row.key: row.env for row in rows(cls, program)}
            for key in ("token", "token_file", "tls_ca", "tls_certificate", "tls_key", "insecure"):
                assert named[key] == f"SQUASH_{key.upper()}"
    assert f"http://{CoordinatorSettings().listen}" == settings.DEFAULT_SERVER_URL


def test_programs_listen_on_loopback_by_default() -> None:
    assert CoordinatorSettings().listen.host == SidecarSettings().listen.host == "127.0.0.1"


@pytest.mark.parametrize(
    ("home", "variable", "beside_home"),
    [
        (settings.state_home, "XDG_STATE_HOME", ".local/state/squash"),
        (settings.config_home, "XDG_CONFIG_HOME", ".config/squash"),
    ],
)
def test_homes(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    home: Callable[[], Path],
    variable: str,
    beside_home: str,
) -> None:
    monkeypatch.setenv(variable, str(tmp_path))
    assert home() == tmp_path / "squash"
    monkeypatch.delenv(variable)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home() == tmp_path / beside_home
    monkeypatch.delenv("HOME")
    assert not home().is_file()


def test_sockets_lie_in_a_directory_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert settings.runtime_home() == tmp_path / "squash"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert settings.runtime_home().name.startswith("squash-")

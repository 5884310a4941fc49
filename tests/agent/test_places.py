import os
from pathlib import Path

import pytest

from agent.places import LONGEST, Places
from squash.errors import SettingError


def test_a_place_is_private_and_gone_after_removal(short: Path) -> None:
    places = Places(short / "run")
    place = places.make("gdb")
    (place.directory / "note").write_text("x")
    place.socket.touch()
    assert place.directory.stat().st_mode & 0o777 == 0o700
    assert place.socket.parent.stat().st_mode & 0o777 == 0o700
    places.remove(place)
    assert {path.name for path in (short / "run").rglob("*")} == {"client", "target", "identity"}
    places.close()


def test_identity_and_what_was_left_behind_survive_a_life(short: Path) -> None:
    first = Places(short / "run")
    place = first.make("gdb")
    first.close()
    second = Places(short / "run")
    assert second.identity == first.identity
    assert list(second.left_behind()) == [place]
    second.remove(place)
    assert list(second.left_behind()) == []
    second.close()


def test_two_agents_cannot_share_a_directory(short: Path) -> None:
    first = Places(short / "run")
    with pytest.raises(SettingError, match="in use by another agent"):
        Places(short / "run")
    first.close()


def test_a_directory_that_is_a_link_is_refused(short: Path) -> None:
    (short / "elsewhere").mkdir()
    (short / "run").symlink_to(short / "elsewhere")
    with pytest.raises(SettingError, match="symbolic link"):
        Places(short / "run")


def test_a_file_in_the_way_is_named(short: Path) -> None:
    (short / "run").write_text("")
    with pytest.raises(SettingError, match="run"):
        Places(short / "run")


def test_a_path_too_long_for_sockets_is_refused_at_once(short: Path) -> None:
    with pytest.raises(SettingError, match=f"longer than {LONGEST} bytes"):
        Places(short / ("x" * LONGEST))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory that belongs to somebody else")
def test_a_directory_of_somebody_else_is_refused(short: Path) -> None:
    (short / "run").mkdir()
    os.chown(short / "run", 65534, 65534)
    with pytest.raises(SettingError, match="belongs to another user"):
        Places(short / "run")

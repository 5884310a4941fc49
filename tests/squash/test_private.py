import os
from pathlib import Path
from stat import S_IMODE

import pytest

from squash.errors import SettingError
from squash.private import private_directory

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory like /tmp."""
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(0o1777)
    return place


def test_makes_everything_on_the_way_for_this_user_alone(shared: Path) -> None:
    private_directory(shared / "squash" / "agent")
    assert [S_IMODE(place.stat().st_mode) for place in (shared / "squash", shared / "squash/agent")] == [0o700] * 2


def test_makes_it_with_the_mode_asked_for_and_takes_it_again(shared: Path) -> None:
    for _ in range(2):
        private_directory(shared / "squash", mode=0o711)
    assert S_IMODE((shared / "squash").stat().st_mode) == 0o711


def test_a_sticky_directory_on_the_way_may_be_written_by_everybody(shared: Path) -> None:
    private_directory(shared / "squash")
    (shared / "squash").chmod(0o1777)
    private_directory(shared / "squash" / "sockets")


@pytest.mark.parametrize("below", ["", "agent"])
def test_refuses_a_link_that_somebody_may_have_laid(shared: Path, tmp_path: Path, below: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (shared / "squash").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingError, match=r"shared/squash'.*symbolic link"):
        private_directory(shared / "squash" / below)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_refuses_a_link_to_nowhere(shared: Path) -> None:
    (shared / "squash").symlink_to(shared / "not there")
    with pytest.raises(SettingError, match="symbolic link"):
        private_directory(shared / "squash")


@needs_root
def test_refuses_what_belongs_to_another_user(shared: Path) -> None:
    (shared / "squash").mkdir()
    os.chown(shared / "squash", 65_534, 65_534)
    with pytest.raises(SettingError, match=r"shared/squash'.*another user \(uid 65534\)"):
        private_directory(shared / "squash" / "agent")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_refuses_what_others_may_write(shared: Path, mode: int) -> None:
    (shared / "squash").mkdir()
    (shared / "squash").chmod(mode)
    with pytest.raises(SettingError, match="other users may write it"):
        private_directory(shared / "squash")


def test_refuses_a_file_and_what_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match="/file' cannot be used: it is not a directory"):
        private_directory(tmp_path / "file")
    with pytest.raises(SettingError, match="/file' cannot be used"):
        private_directory(tmp_path / "file" / "below")
    with pytest.raises(SettingError, match="cannot be used"):
        private_directory(Path("/proc/squash"))

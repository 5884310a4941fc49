"""Where container runtimes are looked for."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from squash.errors import SettingError
from squash.runtimes.sockets import SOCKETS, find_socket, there


@pytest.fixture
def root(short: Path) -> Iterator[tuple[Path, ExitStack]]:
    with ExitStack() as stack:
        yield short, stack


def listen(root: Path, place: str, stack: ExitStack) -> Path:
    path = root / place.removeprefix("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    stack.enter_context(socket.socket(socket.AF_UNIX)).bind(str(path))
    return path


def test_the_order_is_that_of_the_list(root: tuple[Path, ExitStack]) -> None:
    found: list[Path] = []
    for place in reversed(SOCKETS):
        found.insert(0, listen(root[0], place, root[1]))
        assert find_socket(None, root[0]) == found[0]
        assert list(there(root[0])) == found


def test_what_is_given_counts_alone(root: tuple[Path, ExitStack]) -> None:
    listen(root[0], SOCKETS[0], root[1])
    own = listen(root[0], "own.sock", root[1])
    assert find_socket(own, root[0]) == own
    with pytest.raises(SettingError, match=r"runtime_socket = .*none.sock' cannot be used: there is no such socket"):
        find_socket(root[0] / "none.sock", root[0])


def test_where_there_is_none_all_places_are_told(short: Path) -> None:
    (short / "run/containerd").mkdir(parents=True)
    (short / "run/containerd/containerd.sock").write_text("no socket")
    with pytest.raises(SettingError, match="no container runtime found") as refused:
        find_socket(None, short)
    assert all(place in str(refused.value) for place in SOCKETS)
    assert "runtime_socket" in str(refused.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes root to become somebody else")
def test_what_may_not_be_looked_at_is_told(root: tuple[Path, ExitStack]) -> None:
    place, stack = root
    listen(place, SOCKETS[2], stack)
    (place / "run/crio").chmod(0o700)
    for directory in (place, place / "run"):
        directory.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(SettingError, match=r"crio\.sock \(its directory may not be entered by this user\)"):
            find_socket(None, place)
    finally:
        os.seteuid(0)

"""Who is at the other end, and what they may say."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from envoy_filter.identity import CONTAINER, NAMESPACE, POD, Identity, LocalPeers, Peer, Pod, identified, load, peer_of
from squash.errors import SettingError, SquashError
from squash.reasons import Reason

MINE = Pod("a-1", "shop")


@pytest.mark.parametrize(
    ("claims", "container"),
    [
        ({}, None),
        ({POD: "a-1"}, None),
        ({POD: "a-1", NAMESPACE: "shop", CONTAINER: "app"}, "app"),
        ({POD: "", NAMESPACE: "", CONTAINER: ""}, None),
        ({POD: "-", NAMESPACE: "-", CONTAINER: "-"}, None),
    ],
)
def test_claims_that_fit(claims: dict[str, str], container: str | None) -> None:
    assert identified(MINE, claims) == Identity(MINE, container)


@pytest.mark.parametrize("claims", [{POD: "b-1"}, {NAMESPACE: "else"}, {POD: "a-1", NAMESPACE: "default"}])
def test_claims_that_do_not(claims: dict[str, str]) -> None:
    with pytest.raises(SquashError, match="shop/a-1 claimed to speak for") as refused:
        identified(MINE, claims)
    assert refused.value.reason is Reason.POD_MISMATCH


def test_nobody() -> None:
    with pytest.raises(SquashError) as refused:
        identified(None, {POD: "a-1"})
    assert refused.value.reason is Reason.POD_UNKNOWN


@pytest.mark.parametrize(
    ("environ", "pod"),
    [
        (None, None),
        ({}, None),
        ({"SQUASH_POD": "a"}, Pod("a", "default")),
        ({"SQUASH_POD": "a", "SQUASH_NAMESPACE": "n"}, Pod("a", "n")),
        ({"SQUASH_POD": "a\nb"}, None),
        ({"SQUASH_POD": "x" * 2000}, None),
    ],
)
def test_the_environment_names_the_pod(environ: dict[str, str] | None, pod: Pod | None) -> None:
    assert LocalPeers().pod_of(Peer(1, 0, environ)) == pod


def test_plug_ins() -> None:
    assert isinstance(load("local"), LocalPeers)
    with pytest.raises(SettingError, match="installed are local"):
        load("none-such")


CONNECT = (
    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print('there', flush=True); input()"
)


def test_the_kernel_says_who_it_is(tmp_path: Path) -> None:
    path = Path(os.path.relpath(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        child = subprocess.Popen(
            [sys.executable, "-c", CONNECT, path],
            env={"SQUASH_POD": "a-1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        connection, _ = listener.accept()
        with connection:
            peer = peer_of(connection)
            assert (peer.pid, peer.uid) == (child.pid, os.getuid())
            assert LocalPeers().pod_of(peer) == Pod("a-1", "default")
            child.communicate(b"\n")
            # It is gone: whoever may have its number now is somebody else.
            assert LocalPeers().pod_of(peer_of(connection)) is None


def test_by_tcp_there_is_an_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert peer_of(connection) == Peer(address="127.0.0.1")

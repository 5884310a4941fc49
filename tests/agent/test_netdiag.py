"""What the kernel tells of sockets, against what /proc does."""

import os
import socket

import pytest

from agent import netdiag, netns
from squash import procfs

FAMILIES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
ME = os.getpid()


@pytest.mark.parametrize(("family", "host"), FAMILIES)
def test_it_finds_who_listens_on_a_port_and_who_is_connected(family: socket.AddressFamily, host: str) -> None:
    with (
        socket.create_server((host, 0), family=family) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
    ):
        port, own = server.getsockname()[1], client.getsockname()[1]
        inode = os.fstat(server.fileno()).st_ino
        [listening] = netdiag.sockets(ME, netdiag.LISTEN, port)
        assert listening == procfs.TcpSocket(netdiag.LISTEN, host, port, 0, os.getuid(), inode)
        assert listening in netdiag.sockets(ME, netdiag.LISTEN)
        [end] = netdiag.sockets(ME, netdiag.ESTABLISHED, own)
        assert (end.host, end.port, end.remote) == (host, own, port)
        assert procfs.descriptor_of(ME, inode) == server.fileno()
    assert netdiag.sockets(ME, netdiag.LISTEN, port) == []
    assert procfs.descriptor_of(ME, inode) is None


def test_a_kernel_without_it_is_asked_by_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> socket.socket:
        raise OSError

    monkeypatch.setattr(netns, "made", refuses)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        [found] = netdiag.sockets(ME, netdiag.LISTEN, port)
        assert (found.host, found.inode) == ("127.0.0.1", os.fstat(server.fileno()).st_ino)


def test_a_question_that_is_wrong_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's refusal is no answer: it is asked again by /proc."""
    monkeypatch.setattr(netdiag, "_BY_FAMILY", 99)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert len(netdiag.sockets(ME, netdiag.LISTEN, server.getsockname()[1])) == 1


def test_a_process_that_is_gone_has_no_descriptors() -> None:
    assert procfs.descriptor_of(1 << 22, 1) is None

"""Whoever trickles, or never stops, keeps nobody."""

import http.client
import socket
import threading
from collections.abc import Iterator

import pytest

from agent.bounded import Bounded


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    with one, two:
        yield one, two


def test_bytes_that_trickle_are_not_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    done = threading.Event()

    def trickle() -> None:
        while not done.wait(0.02):
            ends[1].send(b"x")

    trickling = threading.Thread(target=trickle)
    trickling.start()
    try:
        with Bounded.of(ends[0], 0.3, 1_000_000) as line, pytest.raises(TimeoutError):
            list(iter(lambda: line.recv(100), b""))
    finally:
        done.set()
        trickling.join()


def test_an_answer_without_end_is_not_read(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + bytes(5000))
    with Bounded.of(ends[0], 20, 1000) as line:
        answer = http.client.HTTPResponse(line)
        with answer, pytest.raises(ConnectionError, match="more than it should"):
            answer.begin()


def test_what_is_within_the_limits_is_read(ends: tuple[socket.socket, socket.socket]) -> None:
    ends[1].sendall(b"hello")
    ends[1].shutdown(socket.SHUT_WR)
    with Bounded.of(ends[0], 20, 5) as line:
        assert line.recv(100) == b"hello"
        assert line.recv(100) == b""

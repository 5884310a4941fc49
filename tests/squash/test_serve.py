"""Listening, the ready line, and the graceful stop."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from squash import serve
from squash.errors import SettingError
from squash.options import Address

PROGRAM = """
import asyncio, sys
from squash import serve
from squash.options import Address

stopping = asyncio.Event()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    if scope["path"] == "/wait":
        print("waiting", flush=True)
        await stopping.wait()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

async def main():
    with serve.bind(Address("127.0.0.1", 0), "--listen") as sock:
        await serve.run(app, sock, "squash-test", stopping.set)
    print("stopped", flush=True)

asyncio.run(main())
"""


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as sock:
        return sock.connect_ex(("::1", 9)) != errno.EADDRNOTAVAIL


@pytest.fixture
def program() -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def line(program: "subprocess.Popen[str]") -> str:
    assert program.stdout
    return program.stdout.readline()


def test_ready_means_ready(program: "subprocess.Popen[str]") -> None:
    words = line(program).split()
    assert words[:3] == ["squash-test", "ready", "on"]
    answer = httpx.get(words[3], trust_env=False)
    assert answer.text == "ok"
    assert "server" not in answer.headers


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_finishes_what_waits(program: "subprocess.Popen[str]", number: signal.Signals) -> None:
    address = Address.parse(line(program).split()[-1].removeprefix("http://"))
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        assert line(program) == "waiting\n"
        program.send_signal(number)
        assert b"".join(iter(lambda: client.recv(65_536), b"")).endswith(b"\r\n\r\nok")
    assert line(program) == "stopped\n"
    assert program.wait(60) == 0
    with pytest.raises(ConnectionRefusedError), socket.create_connection(address, timeout=60):
        pass


def test_a_busy_port_names_its_holder() -> None:
    with serve.bind(Address("127.0.0.1", 0), "--listen") as sock:
        port = sock.getsockname()[1]
        with pytest.raises(SettingError) as caught:
            serve.bind(Address("127.0.0.1", port), "--listen")
    said = str(caught.value)
    assert said.startswith(f"port {port} of 127.0.0.1 is held by process {os.getpid()} (")
    assert said.endswith("end it, or choose another port with --listen")


def test_a_port_may_be_taken_again_at_once() -> None:
    with serve.bind(Address("127.0.0.1", 0), "--listen") as sock:
        address = Address(*sock.getsockname())
        with socket.create_connection(address):
            served, _ = sock.accept()
            served.close()
    serve.bind(address, "--listen").close()


@pytest.mark.parametrize("host", ["203.0.113.1", "no.such.host.invalid"])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(SettingError) as caught:
        serve.bind(Address(host, 0), "--listen")
    assert str(caught.value).startswith(f"cannot listen on {host}:0 (--listen): ")


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_ipv6() -> None:
    with serve.bind(Address("::1", 0), "--listen") as sock:
        assert sock.family is socket.AF_INET6


def test_the_limit_of_open_files_is_raised_as_far_as_allowed() -> None:
    code = (
        "import resource as r; from squash import serve; r.setrlimit(r.RLIMIT_NOFILE, (100, 4000));"
        "serve.allow_many_files(); print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "4000 4000\n"


def test_a_unix_socket_for_everybody_that_is_gone_afterwards(tmp_path: Path) -> None:
    path = Path(os.path.relpath(tmp_path / "s"))
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    # What a crash has left is replaced, one in use is not.
    with serve.listening_at(path, "--socket"), socket.socket(socket.AF_UNIX) as client:
        assert path.stat().st_mode & 0o777 == 0o666
        client.connect(str(path))
        with (
            pytest.raises(SettingError, match=r"\(--socket\): another process listens there"),
            serve.listening_at(path, "--socket"),
        ):
            pass
    assert not path.exists()


@pytest.mark.parametrize("place", ["none/such", "x" * 200])
def test_a_unix_socket_that_cannot_be(tmp_path: Path, place: str) -> None:
    with pytest.raises(SettingError, match="cannot listen on"), serve.listening_at(tmp_path / place, "--socket"):
        pass

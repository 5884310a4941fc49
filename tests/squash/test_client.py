"""The client against a server that answers as it should not, and the values of the calls."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from squash import client as api
from squash.client import AsyncClient, Call, Client
from squash.errors import ApiError, SettingError, UnreachableError
from squash.model import DebugAttachment, State, StatusPatch
from squash.reasons import Reason


class Odd:
    """Answers each connection with the same bytes, then closes it; without bytes it says nothing until closed."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.heard = b""
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.heard = connection.recv(65_536)
                if self.answer:
                    connection.sendall(self.answer)
                else:
                    self._over.wait(60)

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.fixture
def odd() -> Iterator[Callable[[bytes], Odd]]:
    servers: list[Odd] = []

    def start(answer: bytes) -> Odd:
        servers.append(Odd(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (status.encode(), len(body), body)


UNUSABLE = [
    http("200 OK", b"not JSON"),
    http("200 OK", b"[]"),
    http("200 OK", b'{"spec": {}}'),
    http("200 OK", b'{"spec": {"attachment": {}}, "status": {"state": "new"}}'),
    http("200 OK", b"\xff"),
    http("200 OK", b""),
    http("404 Not Found", b"<html>"),
    http("500 Oops", b"\xff\xfe"),
    http("302 Found", b""),
    http("400 Bad", b'{"code": 400, "reason": "of a later version", "message": "", "remedy": ""}'),
]
BROKEN = [b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", b"HTTP/1.1 200 OK\r\n"]


@pytest.mark.parametrize("answer", UNUSABLE)
def test_an_answer_that_is_not_ours(odd: Callable[[bytes], Odd], answer: bytes) -> None:
    server = odd(answer)
    with Client(server.url) as client, pytest.raises(ApiError) as caught:
        client.send(api.get_attachment("x"))
    assert caught.value.reason is Reason.COORDINATOR_REFUSED
    assert server.url in caught.value.message


@pytest.mark.parametrize("answer", BROKEN)
async def test_an_answer_that_breaks_off(odd: Callable[[bytes], Odd], answer: bytes) -> None:
    server = odd(answer)
    with Client(server.url) as client, pytest.raises(UnreachableError) as caught:
        await asyncio.to_thread(client.send, api.get_attachment("x"))
    assert caught.value.message.startswith(server.url)
    async with AsyncClient(server.url) as client_too:
        with pytest.raises(UnreachableError):
            await client_too.send(api.get_attachment("x"))


async def test_no_answer_in_time(odd: Callable[[bytes], Odd]) -> None:
    server = odd(b"")
    async with AsyncClient(server.url, timeout=0.1) as client:
        with pytest.raises(UnreachableError, match="did not answer in time"):
            await client.send(api.list_requests())
        with pytest.raises(UnreachableError, match="did not answer in time"):
            await client.send(api.get_request("x", wait=30), timeout=0.1)


def test_nobody_there() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        with Client(url) as client, pytest.raises(UnreachableError, match="refused"):
            client.send(api.list_requests())


def test_a_refusal_is_told_as_it_is(odd: Callable[[bytes], Odd]) -> None:
    body = b'{"code": 409, "reason": "name_taken", "message": "there is one", "remedy": "-"}'
    with Client(odd(http("409 Conflict", body)).url) as client, pytest.raises(ApiError) as caught:
        client.send(api.get_attachment("x"))
    assert (caught.value.code, caught.value.reason, caught.value.message) == (409, Reason.NAME_TAKEN, "there is one")


def test_an_empty_answer_where_none_is_due(odd: Callable[[bytes], Odd]) -> None:
    with Client(odd(http("200 OK", b"")).url) as client:
        client.send(api.delete_request("x"))


def test_a_proxy_of_the_environment_is_not_asked(odd: Callable[[bytes], Odd], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with Client(odd(http("200 OK", b"[]")).url) as client:
        assert client.send(api.list_requests()) == []


@pytest.mark.parametrize(
    "url",
    [
        *("", "http://", "localhost:8602", "ftp://x", "unix:/x", "http://[", "http://a b", "http://x:port"),
        *("http://x:0", "http://x:65536", "http://a..b", f"http://{'a' * 64}", "http://x\n", "http://\udcff"),
    ],
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(SettingError, match="expected http://HOST:PORT"):
        Client(url)


def test_a_long_poll_says_how_long(odd: Callable[[bytes], Odd]) -> None:
    server = odd(http("200 OK", b"[]"))
    with Client(server.url + "/") as client:
        client.send(api.list_attachments(states=[State.NONE, State.ERROR], names=["a", "b"], node="n&=", wait=1.5))
    first, *headers = server.heard.decode().lower().split("\r\n")
    assert first == ("get /api/v2/debugattachment?node=n%26%3d&states=none%2cerror&names=a%2cb&wait=true http/1.1"), (
        first
    )
    assert "x-timeout: 1.500" in headers


@pytest.mark.parametrize(
    ("call", "method", "path"),
    [
        (api.get_attachment("a/b"), "GET", "/api/v2/debugattachment/a%2Fb"),
        (api.release_attachment(".."), "POST", "/api/v2/debugattachment/../release"),
        (api.delete_request("a?b"), "DELETE", "/api/v2/debugrequest/a%3Fb"),
        (api.changes(holder="h", wait=1), "GET", "/api/v2/changes"),
        (api.document(), "GET", "/openapi.json"),
    ],
)
def test_paths(call: Call[object], method: str, path: str) -> None:
    assert (call.method, call.path) == (method, path)


def test_a_patch_names_its_object() -> None:
    call = api.patch_attachment("a", StatusPatch(state=State.ATTACHING, agent="me"))
    assert call.body == b'{"metadata":{"name":"a"},"status":{"state":"attaching","agent":"me"}}'
    assert call.headers == {"content-type": "application/json"}
    assert call.answer is DebugAttachment

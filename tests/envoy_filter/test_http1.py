import asyncio

import pytest

from envoy_filter.http1 import Http1Client
from squash.calls import get_attachment, list_attachments, list_requests
from squash.errors import ApiError, SettingError, UnreachableError
from squash.model import State
from squash.reasons import Reason
from tests.envoy_filter.http_server import Handler, HttpServer, Reply, Request


async def exchange(handler: Handler, timeout: float = 30.0) -> tuple[int, bytes]:
    async with HttpServer(handler) as server:
        client = Http1Client(server.url, timeout)
        try:
            return await client.exchange(list_requests())
        finally:
            client.close()


def always(answer: Reply | bytes | None) -> Handler:
    async def handler(request: Request) -> Reply | bytes | None:
        return answer

    return handler


async def test_asks_as_the_call_says() -> None:
    seen: list[Request] = []

    async def handler(request: Request) -> Reply:
        seen.append(request)
        return Reply(200, b"[]")

    async with HttpServer(handler) as server:
        client = Http1Client(server.url + "/prefix/")
        assert await client.send(list_attachments(states=[State.NONE, State.ERROR], names=["a"], wait=1.5)) == []
        client.close()
    [request] = seen
    assert request.path == "/prefix/api/v2/debugattachment"
    assert request.query == {"states": "none,error", "names": "a", "wait": "true"}
    assert request.header("x-timeout") == "1.500"
    assert request.header("host") == f"127.0.0.1:{server.port}"


async def test_connections_are_used_again() -> None:
    async with HttpServer(always(Reply(200, b"[]"))) as server:
        client = Http1Client(server.url)
        await asyncio.gather(*(client.send(list_requests()) for _ in range(5)))
        for _ in range(20):
            await client.send(list_requests())
        assert len(server.connections) == 5
        client.close()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", (200, b"ok")),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", (200, b"ok")),
        (b"HTTP/1.1 204 Nothing\r\n\r\n", (204, b"")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n2", (200, b"1")),
    ],
)
async def test_answers(raw: bytes, expected: tuple[int, bytes]) -> None:
    assert await exchange(always(raw)) == expected


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (None, "closed before the answer was whole"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "closed before the answer was whole"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: lots\r\n\r\n", "the answer is not HTTP"),
    ],
)
async def test_useless_answers(raw: bytes | None, said: str) -> None:
    with pytest.raises(UnreachableError, match=said):
        await exchange(always(raw))


async def test_refusal_and_silence() -> None:
    with pytest.raises(UnreachableError, match=r"did not answer in 0\.05 s"):
        await exchange(silent, timeout=0.05)
    async with HttpServer(always(Reply(404, b"plain"))) as server:
        client = Http1Client(server.url)
        with pytest.raises(ApiError, match="answered 404: plain") as refused:
            await client.send(get_attachment("a/b"))
        client.close()
    assert (refused.value.code, refused.value.reason) == (404, Reason.COORDINATOR_REFUSED)
    with pytest.raises(UnreachableError):
        await client.send(list_requests())


async def silent(request: Request) -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize(
    "url", ["", "host:1", "ftp://host", "http://", "http://a:0", "http://a:b", "http://u@a", "http://a?b"]
)
def test_bad_urls(url: str) -> None:
    with pytest.raises(SettingError) as refused:
        Http1Client(url)
    assert f"server_url = {url!r} cannot be used" in refused.value.message

"""What the filter must do to a request: caller, real Envoy, real sidecar, upstream, and a coordinator double.

Each case runs with each front end. The numbers in the names are those of the filter's contract.
"""

import asyncio
import hashlib
import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from envoy_filter.front_end import FrontEnd
from squash.mark import BAGGAGE
from squash.model import Outcome, State
from squash.reasons import Reason
from squash.result import HEADER, MARK, Result
from squash.tasks import spawn
from tests.envoy_filter.coordinator_double import CoordinatorDouble, refusal
from tests.envoy_filter.http_server import Reply, Request
from tests.envoy_filter.stack import MARKED, Stack, result, stack

LARGE = 5 * 2**20


@pytest.fixture
async def held(tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd) -> AsyncIterator[Stack]:
    """Everything in between; a request that is marked is held."""
    async with stack(tmp_path, double.url, front_end=front_end) as running:
        yield running


def with_small_buffers(config: dict[str, Any]) -> None:
    for part in config["static_resources"]["listeners"] + config["static_resources"]["clusters"]:
        part["per_connection_buffer_limit_bytes"] = 65_536


def without(request: Request, *names: str) -> list[tuple[str, str]]:
    """The headers that Envoy does not make anew for each request."""
    return [(key, value) for key, value in request.headers if key not in (*names, "x-request-id")]


async def test_1_unmarked_request_is_untouched(held: Stack, double: CoordinatorDouble) -> None:
    response = await held.http.get(held.url + "/cart")
    assert (response.status_code, response.text) == (200, "served")
    assert response.headers[HEADER] == "nonsense of the upstream"
    assert double.calls == []
    assert (await held.metrics())["squash_hold_seconds_count"] == 0


async def test_2_marked_request_is_held_until_attached_and_unchanged(held: Stack, double: CoordinatorDouble) -> None:
    body = bytes(range(256)) * 40
    given = MARKED | {"x-own": "1", "traceparent": "00-1-2-03", "cookie": "a=b"}
    marked = spawn(held.http.post(held.url + "/cart?a=%20b", content=body, headers=given), "post")
    [name] = await double.created()
    assert held.upstream.requests == []
    told = double.attachments[name].spec.held
    assert told is not None
    assert (told.method, told.path, told.traceparent) == ("POST", "/cart?a=%20b", "00-1-2-03")
    assert told.request_id
    await double.change(name, State.ATTACHED)
    said = result(await marked)
    assert (said.outcome, said.id, said.reason) == (Outcome.ATTACHED, name, None)
    del given[MARK]
    await held.http.post(held.url + "/cart?a=%20b", content=body, headers=given)
    first, second = held.upstream.requests
    # Envoy itself tells the service how long it waits, which is for ever when the request is marked.
    assert sorted(without(first, MARK, BAGGAGE)) == sorted(without(second, "x-envoy-expected-rq-timeout-ms"))
    assert (first.header(MARK), first.header(BAGGAGE)) == ("true", "squash=true")
    assert (first.method, first.target, first.body) == ("POST", "/cart?a=%20b", body)


async def test_2_any_value_marks_even_an_empty_one(held: Stack, double: CoordinatorDouble) -> None:
    double.instead["create"] = no_match
    for value in ("", "0", "x" * 50_000):
        assert result(await held.get(headers={MARK: value})).outcome is Outcome.NO_MATCH
    assert [request.header(MARK) for request in held.upstream.requests] == ["", "0", "x" * 50_000]


async def no_match(request: Request) -> Reply:
    return refusal(404, Reason.NO_PENDING_REQUEST)


async def test_3_nothing_pending(held: Stack, double: CoordinatorDouble) -> None:
    double.instead["create"] = no_match
    said = result(await held.get())
    assert (said.outcome, said.reason) == (Outcome.NO_MATCH, Reason.NO_PENDING_REQUEST)


@pytest.mark.parametrize(
    "answer", [Reply(500, b"oops"), Reply(201, b"not JSON"), Reply(201, b'{"spec": {"attachment": {}}}'), Reply(200)]
)
async def test_3_useless_answers(held: Stack, double: CoordinatorDouble, answer: Reply) -> None:
    async def create(request: Request) -> Reply:
        return answer

    double.instead["create"] = create
    said = result(await held.get())
    assert (said.outcome, said.reason) == (Outcome.ERROR, Reason.COORDINATOR_REFUSED)
    assert len(held.upstream.requests) == 1


async def test_3_no_answer_in_the_request_timeout(
    tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd
) -> None:
    async def hang(request: Request) -> None:
        await asyncio.get_running_loop().create_future()

    double.instead["create"] = hang
    async with stack(tmp_path, double.url, front_end=front_end, request_timeout=0.3) as held:
        said = result(await held.get())
        assert (said.outcome, said.reason) == (Outcome.UNAVAILABLE, Reason.COORDINATOR_UNREACHABLE)


async def test_4_longest_hold(tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd) -> None:
    async with stack(tmp_path, double.url, front_end=front_end, attachment_timeout=0.5) as held:
        assert result(await held.get()).outcome is Outcome.TIMEOUT
        [name] = double.attachments
        await double.until(lambda: double.attachments[name].status.outcome is Outcome.TIMEOUT)


async def test_4_same_answers_when_the_coordinator_restarts(held: Stack, double: CoordinatorDouble) -> None:
    marked = spawn(held.get(), "get")
    [name] = await double.created()
    await double.until(lambda: "changes" in double.calls)
    await double.stop()
    double.forget_revisions()
    await double.start()
    await double.change(name, State.ATTACHED)
    assert result(await marked).outcome is Outcome.ATTACHED


@pytest.mark.parametrize("reason", [Reason.RELEASED, Reason.ATTACH_FAILED])
async def test_5_goes_on_after_release_and_error(held: Stack, double: CoordinatorDouble, reason: Reason) -> None:
    marked = spawn(held.get(), "get")
    [name] = await double.created()
    await double.change(name, State.ERROR, reason)
    said = result(await marked)
    assert said.outcome is (Outcome.RELEASED if reason is Reason.RELEASED else Outcome.ERROR)
    assert (said.reason, len(held.upstream.requests)) == (reason, 1)


async def test_5_coordinator_gone_for_good(tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd) -> None:
    await double.stop()
    async with stack(tmp_path, double.url, front_end=front_end, request_timeout=0.3) as held:
        said = result(await held.get())
        assert (said.outcome, said.reason) == (Outcome.UNAVAILABLE, Reason.COORDINATOR_UNREACHABLE)
        assert len(held.upstream.requests) == 1


UNREACHABLE = Result(Outcome.UNAVAILABLE, reason=Reason.SIDECAR_UNREACHABLE)


async def test_5_sidecar_gone(held: Stack) -> None:
    await held.sidecar.end()
    assert result(await held.get()) == UNREACHABLE
    assert len(held.upstream.requests) == 1


async def test_5_sidecar_killed_while_held(held: Stack, double: CoordinatorDouble) -> None:
    marked = spawn(held.get(), "get")
    await double.until(lambda: "changes" in double.calls)
    held.sidecar.send(signal.SIGKILL)
    assert result(await marked) == UNREACHABLE
    assert len(held.upstream.requests) == 1


async def test_5_sidecar_stopped_while_held(held: Stack, double: CoordinatorDouble) -> None:
    marked = spawn(held.get(), "get")
    await double.until(lambda: "changes" in double.calls)
    status = await held.sidecar.end()
    # Between the two calls the port is closed already; else the sidecar says itself that it stops.
    said = result(await marked)
    assert said.reason in (Reason.STOPPING, Reason.SIDECAR_UNREACHABLE)
    assert (said.outcome, status, len(held.upstream.requests)) == (Outcome.UNAVAILABLE, 0, 1)


async def test_5_sidecar_frozen(tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd) -> None:
    async with stack(tmp_path, double.url, front_end=front_end, request_timeout=0.3, attachment_timeout=1.0) as held:
        marked = spawn(held.get(), "get")
        await double.until(lambda: "changes" in double.calls)
        held.sidecar.send(signal.SIGSTOP)
        answers = [await held.get(), await marked]
        assert [result(answer) for answer in answers] == [UNREACHABLE, UNREACHABLE]
        assert len(held.upstream.requests) == 2
        held.sidecar.send(signal.SIGCONT)
        [name] = double.attachments
        await double.until(lambda: double.attachments[name].status.state is State.ERROR)


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
async def test_5_large_body_behind_small_buffers(
    tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd, version: str
) -> None:
    body = bytes(range(251)) * (LARGE // 251)
    async with stack(tmp_path, double.url, front_end=front_end, change=with_small_buffers) as held:
        (tmp_path / "body").write_bytes(body)
        data = f"@{tmp_path / 'body'}"
        for mark in ((), ("-H", f"{MARK}: 1")):
            argv = ("curl", "-sS", version, "-H", "expect:", "-D", "-", "--data-binary", data, *mark, held.url)
            curl = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
            if mark:
                [name] = await double.created()
                assert len(held.upstream.requests) == 1
                await double.change(name, State.ATTACHED)
            output, _ = await curl.communicate()
            assert output.endswith(b"served")
            assert (f"{HEADER}: attached; id=".encode() in output) == bool(mark)
        for served in held.upstream.requests:
            assert hashlib.sha256(served.body).digest() == hashlib.sha256(body).digest()
        assert len(held.upstream.requests) == 2


async def test_2_streamed_body_and_trailers(held: Stack, double: CoordinatorDouble) -> None:
    address = httpx.URL(held.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(
        b"POST / HTTP/1.1\r\nhost: a\r\nx-squash-debug: 1\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    )
    writer.write(b"5\r\nhello\r\n")
    [name] = await double.created()
    writer.write(b"6\r\n world\r\n0\r\nx-trailer: there\r\n\r\n")
    await writer.drain()
    await double.change(name, State.ATTACHED)
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200")
    [served] = held.upstream.requests
    assert (served.body, served.header("x-trailer")) == (b"hello world", "there")
    writer.close()
    await writer.wait_closed()


async def test_2_http2_caller(held: Stack, double: CoordinatorDouble) -> None:
    argv = ("curl", "-sS", "--http2-prior-knowledge", "-H", f"{MARK}: 1", "-D", "-", "-d", "hello", held.url + "/h2")
    curl = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    [name] = await double.created()
    await double.change(name, State.ATTACHED)
    output, _ = await curl.communicate()
    assert output.startswith(b"HTTP/2 200")
    assert f"{HEADER}: attached; id={name}".encode() in output
    assert held.upstream.requests[0].body == b"hello"


async def test_6_caller_goes_away_while_held(held: Stack, double: CoordinatorDouble) -> None:
    marked = spawn(held.get(), "get")
    [name] = await double.created()
    await double.until(lambda: "changes" in double.calls)
    marked.cancel()
    await double.until(lambda: bool(double.patched(name)))
    status = double.attachments[name].status
    assert (status.state, status.reason, status.outcome) == (State.ERROR, Reason.CALLER_GONE, Outcome.CALLER_GONE)
    assert held.upstream.requests == []
    metrics = await held.metrics()
    assert metrics["squash_sidecar_open_holds"] == 0
    assert metrics['squash_holds_total{outcome="caller_gone"}'] == 1


async def test_6_caller_goes_away_before_the_creation_is_answered(held: Stack, double: CoordinatorDouble) -> None:
    async def hang(request: Request) -> None:
        await asyncio.get_running_loop().create_future()

    double.instead["create"] = hang
    marked = spawn(held.get(), "get")
    await double.until(lambda: "create" in double.calls)
    marked.cancel()
    await double.until(lambda: bool(double.patches))
    assert double.patches[0][1].outcome is Outcome.CALLER_GONE
    assert held.upstream.requests == []


async def test_long_headers_that_are_not_utf8_do_not_break_the_hold(held: Stack, double: CoordinatorDouble) -> None:
    path, large = b"/" + b"x" * 65_536, b"y" * 20_000
    answering = spawn(raw(held, path, b"traceparent: a\t\xff" + large), "raw")
    [name] = await double.created()
    await double.change(name, State.ATTACHED)
    answer = await answering
    assert answer.startswith(b"HTTP/1.1 200")
    assert f"x-squash-result: attached; id={name};".encode() in answer
    told = double.attachments[name].spec.held
    assert told is not None
    assert told.path == "/" + "x" * 2047
    assert told.traceparent is not None
    # By HTTP Envoy itself makes an exclamation mark of what is not UTF-8.
    assert re.fullmatch("a[ \ufffd][!\ufffd]y{1021}", told.traceparent)
    [served] = held.upstream.requests
    assert served.target == path.decode()
    assert served.header("traceparent") == "a\t\xff" + large.decode()


@pytest.mark.parametrize("header", [b"traceparent: a\x01", b"x-squash-debug: \x7f", b"x-request-id: \x00"])
async def test_control_characters_are_refused_by_envoy_itself(
    held: Stack, double: CoordinatorDouble, header: bytes
) -> None:
    assert (await raw(held, b"/", header)).startswith(b"HTTP/1.1 400")
    assert double.calls == []


async def raw(held: Stack, path: bytes, header: bytes) -> bytes:
    """The answer to a marked request that no client library would send."""
    address = httpx.URL(held.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    head = b" HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-squash-debug: 1\r\n"
    writer.write(b"GET " + path + head + header + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_200_at_once_each_let_go_once(held: Stack, double: CoordinatorDouble) -> None:
    marked = [spawn(held.get(f"/{number}"), "get") for number in range(200)]
    names = await double.created(200)
    assert held.upstream.requests == []
    assert (await held.metrics())["squash_sidecar_open_holds"] == 200
    for number, name in enumerate(names, 1):
        await double.change(name, State.ATTACHED)
        await held.upstream.served(number)
    said = [result(response) for response in await asyncio.gather(*marked)]
    assert {one.id for one in said} == set(names)
    assert {one.outcome for one in said} == {Outcome.ATTACHED}
    assert sorted(request.target for request in held.upstream.requests) == sorted(f"/{n}" for n in range(200))

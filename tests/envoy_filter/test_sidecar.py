"""The sidecar's process alone, between a caller that speaks as the Lua filter does and a coordinator double."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from envoy_filter.headers import HOLD, IGNORED
from squash.model import DebugAttachment, Outcome, State
from squash.reasons import Reason
from squash.result import HEADER, MARK, Result, parse
from squash.tasks import spawn
from tests.envoy_filter.child import BIN, Child
from tests.envoy_filter.coordinator_double import CoordinatorDouble, refusal
from tests.envoy_filter.http_server import Reply, Request
from tests.envoy_filter.stack import sidecar

HALF = b"HTTP/1.1 201 Created\r\ncontent-length: 900\r\n\r\n{"
TOLD = {"x-squash-method": "GET", "x-squash-path": "/cart", "x-request-id": "7"}


class Caller:
    """Makes the two calls of the Lua filter."""

    def __init__(self, child: Child, url: str, http: httpx.AsyncClient) -> None:
        self.child = child
        self.url = url
        self._http = http

    async def get(self, path: str) -> httpx.Response:
        return await self._http.get(self.url + path)

    async def place(self) -> httpx.Response:
        return await self._http.post(self.url + "/holds", headers=TOLD)

    async def hold(self) -> Result:
        answer = await self.place()
        if answer.status_code == 202:
            answer = await self.get(f"/holds/{answer.headers[HOLD]}")
        assert answer.status_code == 200, answer
        return parse(answer.headers[HEADER])

    async def hang_up(self) -> None:
        """Places a hold, asks for it, and hangs up without reading the answer."""
        name = (await self.place()).headers[HOLD]
        address = httpx.URL(self.url)
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(f"GET /holds/{name} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        writer.close()
        await writer.wait_closed()

    async def holds_open(self) -> bool:
        return "squash_sidecar_open_holds 0.0" not in (await self.get("/metrics")).text


@contextlib.asynccontextmanager
async def calling(directory: Path, double: CoordinatorDouble, *flags: str) -> AsyncIterator[Caller]:
    async with (
        sidecar(directory, double.url, "--poll-period", "0.1", *flags) as (child, url),
        httpx.AsyncClient(timeout=60, trust_env=False) as http,
    ):
        yield Caller(child, url, http)


@pytest.fixture
async def caller(tmp_path: Path, double: CoordinatorDouble) -> AsyncIterator[Caller]:
    async with calling(tmp_path, double) as caller:
        yield caller


async def hang(request: Request) -> None:
    await asyncio.get_running_loop().create_future()


async def test_holds_until_attached(caller: Caller, double: CoordinatorDouble) -> None:
    holding = spawn(caller.hold(), "hold")
    [name] = await double.created()
    assert double.attachments[name].spec.attachment == {"pod": "pricing-1", "namespace": "demo"}
    assert double.attachments[name].spec.ttl == 65
    held = double.attachments[name].spec.held
    assert held is not None
    assert (held.method, held.path, held.request_id, held.authority) == ("GET", "/cart", "7", None)
    await double.change(name, State.ATTACHING)
    await double.change(name, State.ATTACHED)
    result = await holding
    assert (result.outcome, result.id, result.reason) == (Outcome.ATTACHED, name, None)
    await double.until(lambda: bool(double.patched(name)))
    assert [status.outcome for status in double.patched(name)] == [Outcome.ATTACHED]
    assert not await caller.holds_open()


async def test_many_holds_share_one_poll(caller: Caller, double: CoordinatorDouble) -> None:
    holding = [spawn(caller.hold(), "hold") for _ in range(20)]
    names = await double.created(20)
    for number, name in enumerate(names):
        await double.change(name, State.ERROR if number % 2 else State.ATTACHED, Reason.RELEASED)
    results = await asyncio.gather(*holding)
    assert {result.id: result.outcome for result in results} == {
        name: Outcome.RELEASED if number % 2 else Outcome.ATTACHED for number, name in enumerate(names)
    }


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refusal(401, Reason.TOKEN_EXPIRED), Result(Outcome.ERROR, None, 0, Reason.TOKEN_EXPIRED)),
        (refusal(403, Reason.NOT_YOURS), Result(Outcome.ERROR, None, 0, Reason.NOT_YOURS)),
        (refusal(429, Reason.LIMIT_REACHED), Result(Outcome.OVERLOADED, None, 0, Reason.LIMIT_REACHED)),
        (refusal(404, Reason.NO_PENDING_REQUEST), Result(Outcome.NO_MATCH, reason=Reason.NO_PENDING_REQUEST)),
        (refusal(404, Reason.CONTAINER_NOT_FOUND), Result(Outcome.ERROR, reason=Reason.CONTAINER_NOT_FOUND)),
        (refusal(409, Reason.NAME_TAKEN), Result(Outcome.ERROR, reason=Reason.NAME_TAKEN)),
        (refusal(503, Reason.STORE_UNAVAILABLE), Result(Outcome.UNAVAILABLE, reason=Reason.STORE_UNAVAILABLE)),
        (Reply(500, b"oops"), Result(Outcome.ERROR, reason=Reason.COORDINATOR_REFUSED)),
        (Reply(201, b"not JSON"), Result(Outcome.ERROR, reason=Reason.COORDINATOR_REFUSED)),
        (Reply(201, b"\xff\xfe"), Result(Outcome.ERROR, reason=Reason.COORDINATOR_REFUSED)),
        (Reply(201, b""), Result(Outcome.ERROR, reason=Reason.COORDINATOR_REFUSED)),
        (Reply(201, b'{"spec": {"attachment": {}}}'), Result(Outcome.ERROR, reason=Reason.COORDINATOR_REFUSED)),
        (Reply(301, b"", (("location", "/"),)), Result(Outcome.ERROR, reason=Reason.COORDINATOR_REFUSED)),
    ],
    ids=lambda value: str(getattr(value, "status", value)),
)
async def test_creation_answered_by_anything_else(
    caller: Caller, double: CoordinatorDouble, answer: Reply, expected: Result
) -> None:
    async def create(request: Request) -> Reply:
        return answer

    double.instead["create"] = create
    result = await caller.hold()
    assert (result.outcome, result.id, result.reason) == (expected.outcome, None, expected.reason)
    assert double.calls.count("create") == 1


async def test_creation_answered_200_instead_of_201(caller: Caller, double: CoordinatorDouble) -> None:
    async def create(request: Request) -> Reply:
        return Reply(200, (await double.create(request)).body)

    double.instead["create"] = create
    assert (await caller.hold()).reason is Reason.COORDINATOR_REFUSED


@pytest.mark.parametrize(
    "rest", [None, b"HTTP/1.1 201 Created\r\ncontent-length: 900\r\n\r\n{", b"220 smtp ready\r\n\r\n"]
)
async def test_lost_answer_to_a_creation_that_landed(
    caller: Caller, double: CoordinatorDouble, rest: bytes | None
) -> None:
    async def create(request: Request) -> bytes | None:
        await double.create(request)
        del double.instead["create"]
        return rest

    double.instead["create"] = create
    holding = spawn(caller.hold(), "hold")
    await double.until(lambda: double.calls.count("get") == 1)
    [name] = await double.created()
    await double.change(name, State.ATTACHED)
    assert (await holding).outcome is Outcome.ATTACHED


async def test_creation_that_landed_under_another_holder(caller: Caller, double: CoordinatorDouble) -> None:
    async def create(request: Request) -> None:
        name = msgspec.json.decode(request.body, type=DebugAttachment).metadata.name
        await double.create(Request(body=msgspec.json.encode({"metadata": {"name": name}, "spec": {"attachment": {}}})))
        del double.instead["create"]

    double.instead["create"] = create
    assert (await caller.hold()).outcome is Outcome.ERROR


async def test_creation_that_hangs_and_lands_late_is_cancelled(tmp_path: Path, double: CoordinatorDouble) -> None:
    go = asyncio.Event()

    async def create(request: Request) -> Reply:
        await go.wait()
        return await double.create(request)

    double.instead["create"] = create
    async with calling(tmp_path, double, "--request-timeout", "0.2") as caller:
        result = await caller.hold()
        assert result.outcome is Outcome.UNAVAILABLE
        assert result.reason is Reason.COORDINATOR_UNREACHABLE
        go.set()
        [name] = await double.created()
        await double.until(lambda: double.attachments[name].status.state is State.ERROR)
    assert double.attachments[name].status.outcome is Outcome.UNAVAILABLE


async def test_nobody_listens_at_the_coordinator(tmp_path: Path, double: CoordinatorDouble) -> None:
    await double.stop()
    async with calling(tmp_path, double, "--request-timeout", "0.2") as caller:
        assert (await caller.hold()).reason is Reason.COORDINATOR_UNREACHABLE
        assert (await caller.get("/readyz")).status_code == 200


async def test_coordinator_comes_within_the_request_timeout(tmp_path: Path, double: CoordinatorDouble) -> None:
    await double.stop()
    async with calling(tmp_path, double, "--request-timeout", "30") as caller:
        placing = spawn(caller.place(), "place")
        await asyncio.wait([placing], timeout=0.1)
        await double.start()
        assert (await placing).status_code == 202


@pytest.mark.parametrize(
    "answer",
    [
        None,
        Reply(500, b"oops"),
        Reply(200, b"not JSON"),
        Reply(200, b"[]"),
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{",
    ],
    ids=str,
)
async def test_unreadable_polls_are_tried_again(
    caller: Caller, double: CoordinatorDouble, answer: Reply | bytes | None
) -> None:
    async def changes(request: Request) -> Reply | bytes | None:
        return answer

    double.instead["changes"] = changes
    holding = spawn(caller.hold(), "hold")
    [name] = await double.created()
    await double.until(lambda: double.calls.count("changes") >= 4)
    await double.change(name, State.ATTACHED)
    del double.instead["changes"]
    assert (await holding).outcome is Outcome.ATTACHED


async def test_hold_survives_the_coordinators_restart(caller: Caller, double: CoordinatorDouble) -> None:
    holding = [spawn(caller.hold(), "hold") for _ in range(3)]
    kept, attached, deleted = await double.created(3)
    await double.until(lambda: double.calls.count("changes") >= 2)
    await double.stop()
    double.forget_revisions()
    del double.attachments[deleted]
    await double.change(attached, State.ATTACHED)
    await double.start()
    done, _ = await asyncio.wait(holding, return_when=asyncio.FIRST_COMPLETED)
    await double.change(kept, State.ATTACHED)
    results = {result.id: result for result in await asyncio.gather(*holding)}
    assert done
    assert results[attached].outcome is results[kept].outcome is Outcome.ATTACHED
    assert (results[deleted].outcome, results[deleted].reason) == (Outcome.RELEASED, Reason.DELETED)


async def test_deleted_while_held(caller: Caller, double: CoordinatorDouble) -> None:
    holding = spawn(caller.hold(), "hold")
    [name] = await double.created()
    await double.until(lambda: double.calls.count("changes") >= 2)
    await double.delete(name)
    assert (await holding).reason is Reason.DELETED


async def test_longest_hold(tmp_path: Path, double: CoordinatorDouble) -> None:
    async with calling(tmp_path, double, "--attachment-timeout", "0.3") as caller:
        result = await caller.hold()
        [name] = double.attachments
        await double.until(lambda: double.attachments[name].status.state is State.ERROR)
    assert (result.outcome, result.reason) == (Outcome.TIMEOUT, Reason.HOLD_TIMEOUT)
    assert double.attachments[name].status.reason is Reason.HOLD_TIMEOUT
    assert double.attachments[name].status.outcome is Outcome.TIMEOUT


async def test_caller_hangs_up_while_held(caller: Caller, double: CoordinatorDouble) -> None:
    await caller.hang_up()
    await double.until(lambda: bool(double.patches))
    [(_, status)] = double.patches
    assert (status.state, status.reason, status.outcome) == (State.ERROR, Reason.CALLER_GONE, Outcome.CALLER_GONE)
    assert not await caller.holds_open()


async def test_caller_hangs_up_before_the_creation_is_answered(caller: Caller, double: CoordinatorDouble) -> None:
    double.instead["create"] = hang
    placing = spawn(caller.place(), "place")
    await double.until(lambda: "create" in double.calls)
    placing.cancel()
    await double.until(lambda: bool(double.patches))
    assert [status.outcome for _, status in double.patches] == [Outcome.CALLER_GONE]
    assert not await caller.holds_open()


async def test_second_call_never_comes(caller: Caller, double: CoordinatorDouble) -> None:
    assert (await caller.place()).status_code == 202
    [name] = double.attachments
    await double.until(lambda: bool(double.patched(name)))
    assert double.patched(name)[0].outcome is Outcome.CALLER_GONE


async def test_second_call_comes_after_the_end(caller: Caller, double: CoordinatorDouble) -> None:
    answer = await caller.place()
    [name] = double.attachments
    await double.change(name, State.ATTACHED)
    await double.until(lambda: bool(double.patched(name)))
    assert parse((await caller.get(f"/holds/{answer.headers[HOLD]}")).headers[HEADER]).outcome is Outcome.ATTACHED
    assert (await caller.get(f"/holds/{answer.headers[HOLD]}")).status_code == 404


async def test_report_outlives_an_outage(caller: Caller, double: CoordinatorDouble) -> None:
    double.instead["patch"] = hang
    await caller.hang_up()
    [name] = double.attachments
    await double.until(lambda: "patch" in double.calls)
    await double.stop()
    del double.instead["patch"]
    await double.start()
    await double.until(lambda: bool(double.patched(name)))
    assert double.attachments[name].status.outcome is Outcome.CALLER_GONE


@pytest.mark.parametrize("code", [500, 503])
async def test_report_that_the_coordinator_cannot_keep_is_sent_again(
    caller: Caller, double: CoordinatorDouble, code: int
) -> None:
    async def patch(request: Request) -> Reply:
        if double.calls.count("patch") == 3:
            del double.instead["patch"]
        return refusal(code, Reason.STORE_UNAVAILABLE)

    double.instead["patch"] = patch
    await caller.hang_up()
    [name] = double.attachments
    await double.until(lambda: bool(double.patched(name)))
    assert double.attachments[name].status.outcome is Outcome.CALLER_GONE


async def test_cancel_of_what_is_in_error_already_still_tells_the_outcome(
    caller: Caller, double: CoordinatorDouble
) -> None:
    async def create(request: Request) -> Reply:
        answer = await double.create(request)
        await double.change(next(iter(double.attachments)), State.ERROR, Reason.ATTACH_FAILED)
        return answer

    double.instead |= {"create": create, "changes": hang}
    await caller.hang_up()
    [name] = double.attachments
    await double.until(lambda: len(double.patched(name)) == 2)
    status = double.attachments[name].status
    assert (status.reason, status.outcome) == (Reason.ATTACH_FAILED, Outcome.CALLER_GONE)


async def test_stops_cleanly(caller: Caller, double: CoordinatorDouble) -> None:
    holding = spawn(caller.hold(), "hold")
    [name] = await double.created()
    await double.until(lambda: "changes" in double.calls)
    caller.child.send(signal.SIGTERM)
    result = await holding
    assert (result.outcome, result.reason) == (Outcome.UNAVAILABLE, Reason.STOPPING)
    assert await caller.child.end() == 0
    assert double.attachments[name].status.reason is Reason.STOPPING
    assert double.attachments[name].status.outcome is Outcome.UNAVAILABLE
    assert "Traceback" not in caller.child.log


async def test_stops_while_the_coordinator_is_gone(caller: Caller, double: CoordinatorDouble) -> None:
    holding = spawn(caller.hold(), "hold")
    await double.until(lambda: "changes" in double.calls)
    await double.stop()
    caller.child.send(signal.SIGTERM)
    assert (await holding).reason is Reason.STOPPING
    assert await caller.child.end() == 0


async def test_past_the_limit_requests_go_on(tmp_path: Path, double: CoordinatorDouble) -> None:
    async with calling(tmp_path, double, "--max-holds", "2") as caller:
        holding = [spawn(caller.hold(), "hold") for _ in range(2)]
        first, second = await double.created(2)
        result = await caller.hold()
        assert (result.outcome, result.id, result.reason) == (Outcome.OVERLOADED, None, Reason.TOO_MANY_HOLDS)
        assert double.calls.count("create") == 2
        await double.change(first, State.ATTACHED)
        await asyncio.wait(holding, return_when=asyncio.FIRST_COMPLETED)
        again = spawn(caller.hold(), "hold")
        third = (await double.created(3))[-1]
        for name in (second, third):
            await double.change(name, State.ATTACHED)
        assert {one.outcome for one in await asyncio.gather(*holding, again)} == {Outcome.ATTACHED}
        assert 'squash_holds_total{outcome="overloaded"} 1.0' in (await caller.get("/metrics")).text


async def test_other_paths(caller: Caller) -> None:
    assert (await caller.get("/healthz")).text == "ok\n"
    assert (await caller.get("/readyz")).text == "ready\n"
    assert (await caller.get("/holds/nothing")).status_code == 404
    assert (await caller.get("/holds")).status_code == 405
    assert (await caller.get("/elsewhere")).status_code == 404
    metrics = (await caller.get("/metrics")).text
    assert all(f'squash_holds_total{{outcome="{outcome}"}} 0.0' in metrics for outcome in Outcome)
    assert "squash_sidecar_open_holds 0.0" in metrics
    assert "squash_hold_seconds_bucket" in metrics


async def test_headers_of_64_kb_and_none_in_utf8(caller: Caller, double: CoordinatorDouble) -> None:
    address = httpx.URL(caller.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    path = b"/" + b"x" * 65_536
    writer.write(b"POST /holds HTTP/1.1\r\nhost: a\r\nx-squash-path: " + path + b"\r\ntraceparent: \xff\t\x80\r\n\r\n")
    assert b"202" in await reader.readline()
    [name] = double.attachments
    held = double.attachments[name].spec.held
    assert held is not None
    assert held.path is not None
    assert len(held.path) == 2048
    assert held.traceparent == "\ufffd\ufffd\ufffd"
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--template", "nonsense", "template = 'nonsense' cannot be used"),
        ("--server-url", "ftp://x", "server_url = 'ftp://x' cannot be used"),
        ("--server-url", "http://[x", "server_url = 'http://[x' cannot be used"),
        ("--listen", "8603", "listen = '8603' (from --listen) cannot be used"),
        ("--request-timeout", "-1", "request_timeout = '-1' (from --request-timeout) cannot be used"),
        ("--attachment-timeout", "soon", "attachment_timeout = 'soon'"),
        ("--max-holds", "0", "max_holds = '0' (from --max-holds) cannot be used"),
    ],
)
def test_bad_settings_are_refused(flag: str, value: str, said: str) -> None:
    run = subprocess.run([BIN / "squash-sidecar", flag, value], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert said in run.stderr
    assert run.stdout == ""


def test_process_stays_lean() -> None:
    """What would make a process that runs once per pod large does not get in by accident."""
    code = "import sys, envoy_filter.sidecar; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"httpx", "starlette", "typer", "rich", "anyio", "yaml", "grpc", "google"} & set(run.stdout.split())


async def test_idle_process_takes_little_memory(caller: Caller) -> None:
    await caller.get("/readyz")
    assert caller.child.rss < 40 * 2**20


def test_grpc_is_told_how_to_be_installed_when_it_is_not() -> None:
    code = (
        "import sys; sys.modules['grpc'] = None; from envoy_filter.sidecar import main; "
        "sys.argv[1:] = ['--listen', '127.0.0.1:0', '--grpc-listen', '127.0.0.1:0']; main()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert "grpc_listen = '127.0.0.1:0' cannot be used" in run.stderr
    assert "pip install squash[grpc]" in run.stderr


def test_grpc_port_of_another_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        flags = ("--listen", "127.0.0.1:0", "--grpc-listen", f"127.0.0.1:{port}")
        argv = (BIN / "squash-sidecar", *flags)
        run = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert f"port {port} of 127.0.0.1 is held by process {os.getpid()}" in run.stderr
    assert "--grpc-listen" in run.stderr


@pytest.mark.parametrize("target", [b"NONSENSE /authz/", b"GET /authz/\xff", b"GET authz", b"\x16\x03\x01"])
async def test_what_cannot_be_read_is_hung_up_on_and_never_refused(caller: Caller, target: bytes) -> None:
    """Envoy would refuse the held request if it were answered 400."""
    address = httpx.URL(caller.url)
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(target + b" HTTP/1.1\r\nhost: a\r\n\r\n")
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_check_is_answered_200_whatever_it_is_about(caller: Caller, double: CoordinatorDouble) -> None:
    about: list[tuple[str | None, str | None]] = []

    async def refuse(request: Request) -> Reply:
        held = msgspec.json.decode(request.body, type=DebugAttachment).spec.held
        assert held is not None
        about.append((held.method, held.path or ""))
        return refusal(404, Reason.NO_PENDING_REQUEST)

    double.instead["create"] = refuse
    methods = ("GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND")
    paths = ("", "/", "/holds", "/healthz", "//x", "*", "/a%2fb?c=%20&d")
    asked = [(method, path) for method in methods for path in paths]
    async with httpx.AsyncClient(trust_env=False) as http:
        for method, path in asked:
            answer = await http.request(method, f"{caller.url}/authz{path}")
            assert (answer.status_code, answer.content) == (200, b"")
            assert parse(answer.headers[HEADER]).outcome is Outcome.NO_MATCH
    assert about == asked


@pytest.mark.parametrize("header", [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}])
async def test_no_web_page_drives_it(caller: Caller, double: CoordinatorDouble, header: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=caller.url, trust_env=False) as page:
        for method, path in (("POST", "/holds"), ("GET", "/holds/x"), ("GET", "/metrics")):
            assert (await page.request(method, path, headers=header)).status_code == 403
        answer = await page.post("/authz/cart", headers=header | {MARK: "1"})
        assert (answer.status_code, answer.headers.get(IGNORED)) == (200, "true")
    assert not double.attachments

"""The sidecar's process alone, between a caller that speaks as the Lua filter does and a coordinator double."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import msgspec
import pytest

from envoy_filter.headers import HOLD, IGNORED
from squash.model import DebugAttachment, Outcome, State
from squash.reasons import Reason
from squash.result import HEADER, MARK, parse
from squash.tasks import spawn
from tests.envoy_filter.calling import Caller, calling, hang
from tests.envoy_filter.child import BIN
from tests.envoy_filter.coordinator_double import CoordinatorDouble, refusal
from tests.envoy_filter.http_server import Reply, Request


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

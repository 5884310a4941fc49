"""The hold as a span, from a real sidecar to a real receiver."""

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from opentelemetry.trace import get_current_span

from envoy_filter.headers import MarkedRequest
from envoy_filter.hold import Hold
from envoy_filter.holds import Held
from envoy_filter.spans import Spans, address, attributes, parent
from envoy_filter.tenants import Tenant
from squash.errors import SettingError
from squash.model import AttachmentSpec, Carrier, DebugAttachment, HeldRequest, Outcome, State
from squash.reasons import Reason
from squash.result import HEADER, Result, parse
from squash.tasks import spawn
from tests.envoy_filter.child import BIN
from tests.envoy_filter.collector import collector, hanging
from tests.envoy_filter.coordinator_double import CoordinatorDouble
from tests.envoy_filter.stack import sidecar

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


async def held(url: str, double: CoordinatorDouble, ends: State, headers: dict[str, str]) -> Result:
    """Holds one request by ext_authz over HTTP, and ends the hold so."""
    before = len(double.attachments)
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        asking = spawn(http.post(url + "/authz/orders?id=7", headers={"x-squash-debug": "1"} | headers), "ask")
        name = (await double.created(before + 1))[-1]
        await double.change(name, ends, Reason.ATTACH_FAILED if ends is State.ERROR else None)
        return parse((await asking).headers[HEADER])


async def test_a_hold_is_a_span_of_its_requests_trace(tmp_path: Path, double: CoordinatorDouble) -> None:
    async with (
        collector(tmp_path) as receiver,
        sidecar(tmp_path, double.url, "--otlp-endpoint", receiver.url) as (_, url),
    ):
        began = time.time_ns()
        said = await held(url, double, State.ATTACHED, {"traceparent": SAMPLED, "x-request-id": "mine"})
        [span] = await receiver.spans(1)
        assert (span.fields["Trace ID"], span.fields["Parent ID"]) == (TRACE, PARENT)
        assert (span.fields["Name"], span.fields["Kind"]) == ("squash hold", "SPAN_KIND_INTERNAL")
        start, end = int(span.fields["Start time"]), int(span.fields["End time"])
        assert began <= start <= end <= time.time_ns()
        assert said.held is not None
        assert abs((end - start) / 1e9 - said.held) <= 0.001
        host = url.removeprefix("http://")
        expected = {
            "squash.outcome": "attached",
            "squash.attachment.id": said.id,
            "squash.mark": "header",
            "http.request.method": "POST",
            "url.path": "/orders",
            "server.address": host.rpartition(":")[0],
            "server.port": host.rpartition(":")[2],
            "k8s.pod.name": "pricing-1",
            "k8s.namespace.name": "demo",
        }
        assert {key: span.attributes.get(key) for key in expected} == expected
        assert "mine" in span.attributes["http.request.header.x-request-id"]
        assert span.resource["service.name"] == "squash-sidecar"


async def test_what_the_caller_does_not_record_is_not_recorded(tmp_path: Path, double: CoordinatorDouble) -> None:
    async with (
        collector(tmp_path) as receiver,
        sidecar(tmp_path, double.url, "--otlp-endpoint", receiver.url) as (_, url),
    ):
        await held(url, double, State.ATTACHED, {"traceparent": UNSAMPLED})
        await held(url, double, State.ERROR, {})
        [span] = await receiver.spans(1)
        assert span.fields["Trace ID"] != TRACE
        assert span.fields["Parent ID"] == ""
        assert (span.attributes["squash.reason"], span.attributes["error.type"]) == ("attach_failed", "attach_failed")


async def test_the_last_spans_are_sent_at_the_end(tmp_path: Path, double: CoordinatorDouble) -> None:
    async with (
        collector(tmp_path) as receiver,
        sidecar(tmp_path, double.url, "--otlp-endpoint", receiver.url) as (child, url),
    ):
        for _ in range(3):
            await held(url, double, State.ATTACHED, {"traceparent": SAMPLED})
        assert await child.end() == 0
        assert len(await receiver.spans(3)) == 3


async def test_a_collector_that_is_away_or_hangs_costs_nothing(tmp_path: Path, double: CoordinatorDouble) -> None:
    with hanging() as sock:
        port = sock.getsockname()[1]
        for endpoint in (f"http://127.0.0.1:{port}", "http://127.0.0.1:1"):
            async with sidecar(tmp_path, double.url, "--otlp-endpoint", endpoint) as (child, url):
                for _ in range(3):
                    said = await held(url, double, State.ATTACHED, {"traceparent": SAMPLED})
                    assert said.outcome is Outcome.ATTACHED
                # `end` would kill it, and say so, after 20 s.
                assert await child.end() == 0


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://", "http://[", "http://a:0"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    done = subprocess.run(
        [BIN / "squash-sidecar", "--listen", "127.0.0.1:0", "--otlp-endpoint", endpoint],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert f"otlp_endpoint = {endpoint!r} cannot be used: expected a URL" in done.stderr


def test_without_the_libraries_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None; sys.argv[1:] = ['--otlp-endpoint', 'http://a']\n"
        "from envoy_filter.sidecar import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "install it with: pip install squash[otel]" in done.stderr


def test_they_are_not_loaded_unasked() -> None:
    program = "import sys, envoy_filter.sidecar; sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("endpoint", "traces"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("https://a.example/otlp/", "https://a.example/otlp/v1/traces"),
        ("http://a/v1/traces", "http://a/v1/traces"),
    ],
)
def test_where_traces_go(endpoint: str, traces: str) -> None:
    assert address(endpoint) == traces


def test_where_they_do_not_go() -> None:
    with pytest.raises(SettingError, match="otlp_endpoint = 'nowhere' cannot be used"):
        Spans("nowhere")


@pytest.mark.parametrize("traceparent", [None, "", "nonsense", "00-" + "0" * 32 + "-b7ad6b7169203331-01"])
def test_a_request_of_no_trace(traceparent: str | None) -> None:
    assert not get_current_span(parent(traceparent)).get_span_context().is_valid


async def test_what_a_span_says() -> None:
    request = HeldRequest(method="PURGE", path="/a?secret=1", authority="[::1]:80", mark=Carrier.BOTH)
    attachment = DebugAttachment(spec=AttachmentSpec(attachment={"pod": "p", "container": 1}, image="demo/x"))
    hold = Hold("a", request_timeout=1, attachment_timeout=1)
    one = Held(hold, MarkedRequest(request), Tenant(attachment), came=0.0)
    assert attributes(one, Result(Outcome.NO_MATCH, None, 0.1, Reason.NO_PENDING_REQUEST)) == {
        "squash.outcome": "no_match",
        "squash.reason": "no_pending_request",
        "squash.mark": "both",
        "container.image.name": "demo/x",
        "http.request.method": "_OTHER",
        "http.request.method_original": "PURGE",
        "url.path": "/a",
        "server.address": "::1",
        "server.port": 80,
        "k8s.pod.name": "p",
    }

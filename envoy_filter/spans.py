"""Each hold as an OpenTelemetry span of the trace of its request, sent by OTLP over HTTP.

This module alone imports OpenTelemetry, and is imported only when an endpoint is set: the libraries are large, and not
always installed. Spans are made and sent after the request has gone on; a collector that is away costs spans, no time.
"""

import asyncio
import os
from collections import deque
from urllib.parse import urlsplit

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.json.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from squash import __version__
from squash.errors import SettingError
from squash.model import Outcome
from squash.result import Result

from .holds import Held

NAME = "squash hold"
TRACES = "/v1/traces"
"""Where an OTLP receiver takes traces, behind its base address."""
TIMEOUT = 3.0
"""Seconds for one batch with all tries; so long may the last one delay the end of the process."""
MOST = 2048
"""Spans that wait to be sent, and go in one batch; more are dropped."""
PAUSE = 0.005
"""Seconds between two handfuls of spans: making one takes some 50 microseconds, which requests must not wait for."""
HANDFUL = 16
_METHODS = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY"})
_CONTAINER = {"pod": "k8s.pod.name", "namespace": "k8s.namespace.name", "container": "k8s.container.name"}
_PROPAGATOR = TraceContextTextMapPropagator()


class Spans:
    """Sends to the OTLP receiver at `endpoint`. Raises SettingError when that is no HTTP URL."""

    def __init__(self, endpoint: str) -> None:
        resource = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "squash-sidecar"}
        # The sampler is OpenTelemetry's default: a caller that does not record its trace is followed in that.
        self._provider = TracerProvider(
            resource=Resource.create({**resource, "service.version": __version__}), shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=address(endpoint), timeout=TIMEOUT)
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, MOST, schedule_delay_millis=1000, max_export_batch_size=MOST)
        )
        self._tracer = self._provider.get_tracer("squash.sidecar", __version__)
        self._ended: deque[Held] = deque(maxlen=MOST)
        self._timer: asyncio.TimerHandle | None = None

    def ended(self, held: Held) -> None:
        """Takes a hold that is over."""
        self._ended.append(held)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE, self._make)

    async def close(self) -> None:
        """Sends what is left, for `TIMEOUT` seconds at most (twice that when a batch is on its way)."""
        if self._timer is not None:
            self._timer.cancel()
        while self._ended:
            self._span(self._ended.popleft())
        await asyncio.to_thread(self._provider.shutdown)

    def _make(self) -> None:
        for _ in range(min(HANDFUL, len(self._ended))):
            self._span(self._ended.popleft())
        self._timer = asyncio.get_running_loop().call_later(PAUSE, self._make) if self._ended else None

    def _span(self, held: Held) -> None:
        result = held.over.result()
        span = self._tracer.start_span(
            NAME,
            context=parent(held.request.traceparent),
            kind=SpanKind.INTERNAL,
            attributes=attributes(held, result),
            start_time=held.began,
        )
        if result.outcome is Outcome.ERROR:
            span.set_status(Status(StatusCode.ERROR, result.reason.meaning if result.reason else None))
        span.end(held.began + round((result.held or 0.0) * 1e9))


def address(endpoint: str) -> str:
    """Where traces go: the endpoint as OpenTelemetry's other settings have it, without or with the path of traces."""
    try:
        parts = urlsplit(endpoint)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise SettingError(f"otlp_endpoint = {endpoint!r} cannot be used: expected a URL like http://127.0.0.1:4318")
    base = endpoint.rstrip("/")
    return base if base.endswith(TRACES) else base + TRACES


def parent(traceparent: str | None) -> Context:
    """The span that the request came from; an empty context, which starts a trace, when it names none."""
    return _PROPAGATOR.extract({"traceparent": traceparent or ""}, Context())


def attributes(held: Held, result: Result) -> dict[str, AttributeValue]:
    """What a span says; names by OpenTelemetry's semantic conventions where there are some."""
    request = held.request
    spec = held.attachment.spec
    method = request.method if request.method in _METHODS else "_OTHER"
    found: dict[str, AttributeValue | None] = {
        "squash.outcome": result.outcome.value,
        "squash.reason": result.reason.value if result.reason else None,
        "error.type": (result.reason or "_OTHER") if result.outcome is Outcome.ERROR else None,
        "squash.attachment.id": result.id,
        "squash.mark": request.mark.value if request.mark else None,
        "container.image.name": spec.image,
        "http.request.method": method if request.method else None,
        "http.request.method_original": request.method if method == "_OTHER" else None,
        "http.request.header.x-request-id": [request.request_id] if request.request_id else None,
        "url.path": request.path.partition("?")[0] if request.path else None,
        **_server(request.authority),
        **{key: _text(spec.attachment.get(name)) for name, key in _CONTAINER.items()},
    }
    return {key: value for key, value in found.items() if value is not None}


def _server(authority: str | None) -> dict[str, AttributeValue | None]:
    try:
        parts = urlsplit(f"//{authority or ''}")
        return {"server.address": parts.hostname, "server.port": parts.port}
    except ValueError:
        return {"server.address": authority}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None

"""The part of an Envoy's configuration that is for auto-debug: debug requests with a trigger other than the mark.

Envoy learns what is pending from the sidecar, by its own discovery of runtime values over REST, and takes the first of
the routes whose value is set; while nothing is pending that is the first of all:

    idle      No failed answer is looked out for.
    failure   An upstream filter shows a 5xx to the sidecar. When it is to be replayed, the answer waits until the
              debugger is ready, gets a header that the route's retry policy looks for, and Envoy sends the request
              again, with the mark. Otherwise the answer goes on to the caller as it came.
    next      The same, and each request is shown to the sidecar first, which holds the one that is like a slow one.

Slow answers are told by an access log, when they are over, of requests that took at least as long as a value says which
is as high as can be while nobody wants to know: no filter need see each answer for that.
"""

from typing import Any

from squash.result import HEADER, MARK

from .front_end import HELD, LUA, MARGIN, FilterSettings, milliseconds, script
from .headers import FORWARDED, LONGEST_OTHERWISE, METHOD, PATH, longest
from .lookout import Kind
from .matching import (
    ANY_BYTES,
    MUTATION,
    OVERWRITE,
    TYPE,
    answer_bears,
    either,
    filter_config,
    noted_true,
    put,
    status_class,
    where,
)
from .onward import SHIELD
from .told import ANSWER, ATTEMPT, CONTENT, DURATION, LARGEST, PATIENCE, REPLAY, SIZE, SLOW_FROM, STATUS, TOLD, UPGRADE
from .yaml import Commented

LAYER = "squash"
"""Name of the runtime layer, which the sidecar is asked for; its keys begin with it."""
BUFFER = 1_048_576
"""Bytes of a request that Envoy keeps to be able to replay it: its own default."""
NEVER = (1 << 32) - 1
"""Milliseconds that no request takes."""
TAKEN = "%COMMON_DURATION(DS_RX_END:US_RX_BEG:ms)%"
"""Milliseconds until the service began to answer, without the time that a caller takes to send and to read."""
TELLING = "1s"
"""How long the sidecar has to take note of a slow answer, for which nobody waits."""
MARK_VALUE = "auto"
MOST_HEADERS = 64
REFRESH = "0.2s"
"""Pause between two calls for runtime values, which Envoy makes up to twice as long. Each call waits for news."""
DECISION = 0.1
"""Of request_timeout: how long a request waits for the sidecar's word on whether to hold it, which asks nobody."""
SILENCE = 10.0
"""Seconds for which a worker of Envoy does not ask a sidecar that has not given that word in time."""
TIMED_OUT = "504"
"""What Envoy answers to its own call when nobody else does in time."""
_SPENT = {"timeout": "0s", "idle_timeout": "0s"}


def runtime(cluster: str) -> dict[str, Any]:
    """The bootstrap's `layered_runtime`, with the layer that the sidecar answers for."""
    source = {
        "resource_api_version": "V3",
        "initial_fetch_timeout": Commented("A sidecar that is frozen must not keep Envoy from starting.", "1s"),
        "api_config_source": {
            "api_type": "REST",
            "transport_api_version": "V3",
            "cluster_names": [cluster],
            "refresh_delay": REFRESH,
            "request_timeout": f"{PATIENCE + 5:g}s",
        },
    }
    return {"layers": [{"name": LAYER, "rtds_layer": {"name": LAYER, "rtds_config": source}}]}


def idle(service: str) -> Any:
    """What unmarked requests take mostly, ahead of `routes`: it spares them their look-ups."""
    return _route(Kind.IDLE, service, "")


def routes(service: str, armed: str) -> list[Any]:
    """The routes to put before the one that takes all unmarked requests, which leads to the cluster `service`.

    `armed` is the same service with the filters of `upstream`.
    """
    return [_route(kind, service, armed) for kind in Kind if kind is not Kind.IDLE]


def filters(settings: FilterSettings) -> list[dict[str, Any]]:
    """The HTTP filter that only the route `next` enables; it goes before the router."""
    return [filter_config(_name("next"), LUA, _source("next", settings))]


def access_log(settings: FilterSettings) -> dict[str, Any]:
    """Tells the sidecar of slow answers."""
    facts = {
        METHOD: _at_most("REQ(:METHOD)"),
        PATH: _at_most("REQ(:PATH)", longest(PATH)),
        STATUS: "%RESPONSE_CODE%",
        DURATION: TAKEN,
        ATTEMPT: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        UPGRADE: _at_most("REQ(UPGRADE)"),
        CONTENT: _at_most("REQ(CONTENT-TYPE)"),
        HEADER: _at_most(f"RESP({HEADER})"),
    }
    facts |= {ANSWER + name.lower(): _at_most(f"RESP({name})") for name in settings.failure_headers}
    slow = {"default_value": NEVER, "runtime_key": f"{LAYER}.{SLOW_FROM}"}
    service = {"uri": "http://squash-sidecar/auto/slow", "cluster": settings.http_cluster, "timeout": TELLING}
    return {
        "name": _name("slow"),
        "filter": Commented(
            "Set only while somebody wants to know.", {"duration_filter": {"comparison": {"op": "GE", "value": slow}}}
        ),
        "typed_config": {
            "@type": TYPE + "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
            "http_service": {"http_uri": service},
            "disable_builtin_labels": True,
            "buffer_size_bytes": Commented("At once.", 1),
            "attributes": {"values": [{"key": key, "value": {"string_value": value}} for key, value in facts.items()]},
        },
    }


def _at_most(what: str, length: int = LONGEST_OTHERWISE) -> str:
    return f"%{what}:{length}%"


def upstream(settings: FilterSettings) -> list[dict[str, Any]]:
    """The upstream HTTP filters of the routes' cluster. Answers pass them from the last to the first."""
    failed = filter_config(_name("failed"), LUA, _source("failure", settings))
    ours = Commented("The service has no say in what is replayed.", {"remove": REPLAY})
    mutations = {
        "request_mutations": Commented(
            "Nothing but for the replay, which bears the mark.",
            [put(MARK, "%DYNAMIC_METADATA(squash:mark)%")],
        ),
        "response_mutations": [ours, *_telling()],
    }
    told = filter_config(_name("failed_told"), MUTATION, {"mutations": mutations})
    replay = noted_true("squash", HELD)
    seen = either(replay, status_class("5xx"), answer_bears(REPLAY, ANY_BYTES + "*"))
    codec = "envoy.filters.http.upstream_codec"
    end = {
        "name": codec,
        "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"},
    }
    return [where(seen, [failed, told]), end]


def _name(what: str) -> str:
    return f"squash_auto_{what}"


def _route(kind: Kind, service: str, armed: str) -> Any:
    fraction = {"default_value": {"numerator": 100 if kind is Kind.IDLE else 0}, "runtime_key": f"{LAYER}.{kind}"}
    route: dict[str, Any] = {"match": {"prefix": "/", "runtime_fraction": fraction}}
    route |= {"route": {"cluster": service}} if kind is Kind.IDLE else _replaying(armed)
    if kind is Kind.NEXT:
        enabled = {"@type": TYPE + "envoy.config.route.v3.FilterConfig", "config": {}}
        route["typed_per_filter_config"] = {_name("next"): enabled}
    comment = {
        Kind.IDLE: "What unmarked requests take while no debug request for a failed answer is pending.",
        Kind.FAILURE: "Failed answers are looked out for. A request that turns out to be the one to debug cannot be\n"
        "given more time then, so all have it.",
        Kind.NEXT: "And for a minute after a slow one, requests.",
    }[kind]
    return Commented(comment, route)


def _replaying(cluster: str) -> dict[str, Any]:
    retry = {
        "retry_on": "retriable-headers",
        "retriable_headers": [{"name": REPLAY, "present_match": True}],
        "num_retries": 1,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.001s"},
    }
    return {
        "route": {"cluster": cluster, **_SPENT, "retry_policy": retry},
        "request_body_buffer_limit": BUFFER,
        "response_headers_to_add": [
            {"header": {"key": HEADER, "value": "%DYNAMIC_METADATA(squash:result)%"}, "append_action": OVERWRITE}
        ],
        "response_headers_to_remove": [REPLAY],
    }


def _telling() -> list[Any]:
    facts = {wire: f"%REQ({name.upper()})%" for name, wire in FORWARDED.items()} | {
        DURATION: "%RESPONSE_DURATION%",
        SIZE: "%BYTES_RECEIVED%",
        ATTEMPT: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        UPGRADE: "%REQ(UPGRADE)%",
        CONTENT: "%REQ(CONTENT-TYPE)%",
    }
    first, *others = (put(TOLD + wire, value) for wire, value in facts.items())
    return [Commented("What the script beside it tells of the request.", first), *others]


def _source(role: str, settings: FilterSettings) -> dict[str, Any]:
    table = {
        "role": role,
        "cluster": settings.http_cluster,
        "request_timeout_ms": milliseconds(settings.request_timeout + MARGIN),
        "decision_timeout_ms": max(1, milliseconds(settings.request_timeout * DECISION)),
        "silence_ms": milliseconds(SILENCE),
        "timed_out": TIMED_OUT,
        "attachment_timeout_ms": milliseconds(settings.attachment_timeout + MARGIN),
        "told": TOLD,
        "status": STATUS,
        "failed": "^5",
        "answer": ANSWER,
        "replay": REPLAY,
        "largest": BUFFER,
        "largest_header": LARGEST,
        "most_headers": MOST_HEADERS,
        "longest_otherwise": LONGEST_OTHERWISE,
        "longest": {wire: longest(wire) for wire in FORWARDED.values()},
        "forwarded": {name: {"name": wire, "longest": longest(wire)} for name, wire in FORWARDED.items()},
        "onward": dict(enumerate(SHIELD, 1)),
        "mark": MARK,
        "mark_value": MARK_VALUE,
        "result_header": HEADER,
        "held": HELD,
    }
    return {"default_source_code": {"inline_string": script("auto", table)}}

"""The part of an Envoy's configuration that is for auto-debug: debug requests with a trigger other than the mark.

Envoy learns what is pending from the sidecar, by its own discovery of runtime values over REST, and takes the first of
the routes whose value is set; while nothing is pending that is the first of all:

    idle      Nothing is looked out for.
    failure   An upstream filter shows a 5xx to the sidecar. When it is to be replayed, the answer waits until the
              debugger is ready, gets a header that the route's retry policy looks for, and Envoy sends the request
              again, with the mark. Otherwise the answer goes on to the caller as it came.
    latency   Slow answers are told to the sidecar; no request waits for that.
    both      As it says.
    next      Both, and each request is shown to the sidecar first, which holds the one that is like a slow one.
"""

from typing import Any

from squash.result import HEADER, MARK

from .front_end import HELD, LUA, MARGIN, FilterSettings, milliseconds, script
from .headers import FORWARDED, LONGEST_OTHERWISE, longest
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
from .told import ANSWER, ATTEMPT, CONTENT, DURATION, LARGEST, PATIENCE, REPLAY, SIZE, STATUS, TOLD, UPGRADE
from .yaml import Commented

LAYER = "squash"
"""Name of the runtime layer, which the sidecar is asked for; its keys begin with it."""
BUFFER = 1_048_576
"""Bytes of a request that Envoy keeps to be able to replay it: its own default."""
SLOWEST_UNSEEN = "[1-9][0-9]{2,}"
"""Durations in milliseconds that are told: from a tenth of a second on (`model.Threshold`)."""
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
    """What unmarked requests take while nothing is looked out for, ahead of `routes`: it spares them their look-ups."""
    return _route(Kind.IDLE, service, "")


def routes(service: str, armed: str) -> list[Any]:
    """The routes to put before the one that takes all unmarked requests, which leads to the cluster `service`.

    `armed` is the same service with the filters of `upstream`.
    """
    return [_route(kind, service, armed) for kind in Kind if kind is not Kind.IDLE]


def filters(settings: FilterSettings) -> list[dict[str, Any]]:
    """HTTP filters that only the routes `latency`, `both` and `next` enable; they go before the router."""
    due = filter_config(_name("next"), LUA, _source("next", settings))
    return [due, _slow(settings)]


def _slow(settings: FilterSettings) -> dict[str, Any]:
    slow = filter_config(_name("slow"), LUA, _source("latency", settings))
    told = filter_config(_name("slow_told"), MUTATION, {"mutations": {"response_mutations": _telling()}})
    return where(answer_bears("x-envoy-upstream-service-time", SLOWEST_UNSEEN), [slow, told])


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
    route |= {"route": {"cluster": service}} if kind in (Kind.IDLE, Kind.LATENCY) else _replaying(armed)
    slow = {Kind.LATENCY: ("slow",), Kind.BOTH: ("slow",), Kind.NEXT: ("next", "slow")}
    if on := slow.get(kind):
        enabled = {"@type": TYPE + "envoy.config.route.v3.FilterConfig", "config": {}}
        route["typed_per_filter_config"] = {_name(one): enabled for one in on}
    comment = {
        Kind.IDLE: "What unmarked requests take while no debug request with a trigger is pending.",
        Kind.FAILURE: "Failed answers are looked out for. A request that turns out to be the one to debug cannot be\n"
        "given more time then, so all have it.",
        Kind.LATENCY: "Slow answers are looked out for.",
        Kind.BOTH: "Failed and slow answers are.",
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

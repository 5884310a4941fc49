"""The part of an Envoy's configuration that is for auto-debug: debug requests with a trigger other than the mark.

While none is pending, a request pays three look-ups in Envoy's runtime: those of routes that it then does not take.
Envoy learns what is pending from the sidecar, by its own discovery of runtime values over REST. The routes:

    failure   an upstream filter shows a 5xx to the sidecar. When it is to be replayed, the answer waits until the
              debugger is ready, gets a header that the route's retry policy looks for, and Envoy sends the request
              again, with the mark. Otherwise the answer goes on to the caller as it came.
    latency   the same, and slow answers are told to the sidecar; no request waits for that.
    next      the same, and each request is shown to the sidecar first, which holds the one that is like a slow one.
"""

from typing import Any

from squash.result import HEADER, MARK

from .front_end import HELD, LUA, MARGIN, TYPE, FilterSettings, filter_config, milliseconds, script
from .headers import FORWARDED, LONGEST_OTHERWISE, longest
from .lookout import Kind
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


def routes(cluster: str) -> list[Any]:
    """The routes to put before the one that takes all unmarked requests. `cluster` has the filters of `upstream`."""
    return [_route(kind, cluster) for kind in Kind]


def filters(settings: FilterSettings) -> list[dict[str, Any]]:
    """HTTP filters that only the routes `latency` and `next` enable; they go before the router."""
    due = filter_config(_name("next"), LUA, _source("next", settings))
    slow = filter_config(_name("slow"), LUA, _source("latency", settings))
    told = filter_config(_name("slow_told"), _MUTATION, {"mutations": _telling()})
    return [due, _when_slow(slow), _when_slow(told)]


def upstream(settings: FilterSettings) -> list[dict[str, Any]]:
    """The upstream HTTP filters of the routes' cluster. Answers pass them from the last to the first."""
    failed = filter_config(_name("failed"), LUA, _source("failure", settings))
    mutations = _telling() | {
        "request_mutations": Commented(
            "Nothing but for the replay, which bears the mark.",
            [_append(MARK, "%DYNAMIC_METADATA(squash:mark)%")],
        )
    }
    told = filter_config(_name("failed_told"), _MUTATION, {"mutations": mutations})
    ours = Commented("The service has no say in what is replayed.", [{"remove": REPLAY}])
    own = filter_config(_name("own_word"), _MUTATION, {"mutations": {"response_mutations": ours}})
    codec = "envoy.filters.http.upstream_codec"
    end = {
        "name": codec,
        "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec"},
    }
    return [_when_failed(failed), _when_failed(told), own, end]


_MUTATION = "header_mutation.v3.HeaderMutation"


def _name(what: str) -> str:
    return f"squash_auto_{what}"


def _route(kind: Kind, cluster: str) -> Any:
    enabled = {"@type": TYPE + "envoy.config.route.v3.FilterConfig", "config": {}}
    on = {Kind.FAILURE: (), Kind.LATENCY: ("slow", "slow_told"), Kind.NEXT: ("next", "slow", "slow_told")}[kind]
    fraction = {"default_value": {"numerator": 0}, "runtime_key": f"{LAYER}.{kind}"}
    retry = {
        "retry_on": "retriable-headers",
        "retriable_headers": [{"name": REPLAY, "present_match": True}],
        "num_retries": 1,
        "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.001s"},
    }
    route: dict[str, Any] = {
        "match": {"prefix": "/", "runtime_fraction": fraction},
        "route": {"cluster": cluster, **_SPENT, "retry_policy": retry},
        "request_body_buffer_limit": BUFFER,
        "response_headers_to_add": [
            {"header": {"key": HEADER, "value": "%DYNAMIC_METADATA(squash:result)%"}, "append_action": _OVERWRITE}
        ],
        "response_headers_to_remove": [REPLAY],
    }
    if on:
        route["typed_per_filter_config"] = {_name(one): enabled for one in on}
    comment = {
        Kind.NEXT: "Taken only while a debug request with a trigger is pending. A request that turns out to be the\n"
        "one to debug cannot be given more time then, so all have it.",
        Kind.LATENCY: "Slow answers are looked out for.",
        Kind.FAILURE: "Failed answers are looked out for.",
    }[kind]
    return Commented(comment, route)


_OVERWRITE = "OVERWRITE_IF_EXISTS_OR_ADD"


def _append(header: str, value: str) -> dict[str, Any]:
    return {"append": {"header": {"key": header, "value": value}, "append_action": _OVERWRITE}}


def _telling() -> dict[str, Any]:
    facts = {wire: f"%REQ({name.upper()})%" for name, wire in FORWARDED.items()} | {
        DURATION: "%RESPONSE_DURATION%",
        SIZE: "%BYTES_RECEIVED%",
        ATTEMPT: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        UPGRADE: "%REQ(UPGRADE)%",
        CONTENT: "%REQ(CONTENT-TYPE)%",
    }
    mutations = [_append(TOLD + wire, value) for wire, value in facts.items()]
    return {"response_mutations": Commented("What the script beside it tells of the request.", mutations)}


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


# -- matchers: whatever does not match skips the filter ---------------------------------------------


def _when_failed(wrapped: dict[str, Any]) -> dict[str, Any]:
    status = {"@type": TYPE + "envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput"}
    return _unless_skipped(wrapped, {"name": "status", "typed_config": status}, {"exact": "5xx"})


def _when_slow(wrapped: dict[str, Any]) -> dict[str, Any]:
    header = "x-envoy-upstream-service-time"
    time = {"@type": TYPE + "envoy.type.matcher.v3.HttpResponseHeaderMatchInput", "header_name": header}
    slow = {"safe_regex": {"google_re2": {}, "regex": SLOWEST_UNSEEN}}
    return _unless_skipped(wrapped, {"name": "time", "typed_config": time}, slow)


def _unless_skipped(wrapped: dict[str, Any], input: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    skip = {"@type": TYPE + "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"}
    other = {"not_matcher": {"single_predicate": {"input": input, "value_match": value}}}
    on_match = {"action": {"name": "skip", "typed_config": skip}}
    return {
        "name": wrapped["name"],
        "typed_config": {
            "@type": TYPE + "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            "xds_matcher": {"matcher_list": {"matchers": [{"predicate": other, "on_match": on_match}]}},
            "extension_config": wrapped,
        },
    }

"""Renders Envoy configuration: a whole bootstrap, or the pieces to paste into one's own."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Annotated, Any

import msgspec

from squash.model import Outcome
from squash.options import Address, setting
from squash.reasons import Reason
from squash.result import HEADER, MARK, Result
from squash.settings import Positive, SidecarSettings

from .headers import FORWARDED, HOLD, longest
from .yaml import Commented

ClusterName = Annotated[str, msgspec.Meta(pattern=r"^[!-~]+$", max_length=200)]
SIDECAR = "squash_sidecar"
UPSTREAM = "squash_upstream"
FILTER = "squash"
MARGIN = 0.5
"""Seconds that Envoy waits for the sidecar beyond the sidecar's own limits: only a frozen one takes that long."""
TYPE = "type.googleapis.com/"
_SIDECAR = SidecarSettings()
_PSEUDO = {"method": ":method", "path": ":path", "authority": ":authority"}


@dataclass(frozen=True, kw_only=True)
class FilterSettings:
    """What the filter has to know. Both timeouts must be the sidecar's."""

    sidecar: Address = setting(_SIDECAR.listen, "address of squash-sidecar")
    sidecar_cluster: ClusterName | None = setting(
        None, "name of a cluster of yours that leads to squash-sidecar, instead of an address"
    )
    request_timeout: Positive = setting(_SIDECAR.request_timeout, "the sidecar's request_timeout, in seconds")
    attachment_timeout: Positive = setting(_SIDECAR.attachment_timeout, "the sidecar's attachment_timeout, in seconds")

    @property
    def cluster(self) -> str:
        """Name of the cluster that leads to the sidecar."""
        return self.sidecar_cluster or SIDECAR


@dataclass(frozen=True, kw_only=True)
class EnvoySettings(FilterSettings):
    """What a whole bootstrap needs."""

    listen: Address = setting(help="address that callers use; port 0 lets the system choose")
    upstream: Address = setting(help="address of the service behind Envoy")
    admin: Address | None = setting(None, "address of Envoy's admin interface; none without it")
    stat_prefix: ClusterName = setting("squash", "prefix of the statistics of Envoy's listener")


def bootstrap(settings: EnvoySettings) -> dict[str, Any]:
    """A whole configuration: one listener, the filter, one upstream."""
    clusters = [_upstream_cluster(settings), *_sidecar_clusters(settings)]
    config: dict[str, Any] = {"static_resources": {"listeners": [_listener(settings)], "clusters": clusters}}
    return ({"admin": {"address": _address(settings.admin)}} if settings.admin else {}) | config


def snippet(settings: FilterSettings) -> dict[str, Any]:
    """The pieces that make an Envoy hold: the filter, a route that is never taken, the sidecar's cluster."""
    pieces: dict[str, Any] = {
        "http_filters": Commented("Goes before the router, and after what may refuse a request.", [_filter(settings)]),
        "routes": Commented("Goes last in a virtual host.", [_checking_route(settings)]),
    }
    if clusters := _sidecar_clusters(settings):
        pieces["clusters"] = clusters
    return pieces


def lua(settings: FilterSettings) -> str:
    """The source of the Lua filter, with its settings in front."""
    table = {
        "cluster": settings.cluster,
        "request_timeout_ms": _milliseconds(settings.request_timeout + MARGIN),
        "attachment_timeout_ms": _milliseconds(settings.attachment_timeout + MARGIN),
        "mark": MARK,
        "result_header": HEADER,
        "hold_header": HOLD,
        "unreachable": str(Result(Outcome.UNAVAILABLE, reason=Reason.SIDECAR_UNREACHABLE)),
        "forwarded": {
            _PSEUDO.get(field, header): {"name": header, "longest": longest(field)}
            for field, header in FORWARDED.items()
        },
    }
    source = resources.files(__package__).joinpath("lua/squash.lua").read_text(encoding="utf-8")
    return f"local settings = {_lua_value(table)}\n\n{source}"


def _lua_value(value: Any, indent: str = "") -> str:
    """`value` as a Lua literal: tables, integers and printable ASCII."""
    if isinstance(value, Mapping):
        inner = indent + "  "
        lines = (f"{inner}[{_lua_value(k)}] = {_lua_value(v, inner)},\n" for k, v in value.items())
        return "{\n" + "".join(lines) + indent + "}"
    if isinstance(value, int):
        return str(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _listener(settings: EnvoySettings) -> dict[str, Any]:
    manager = {
        "@type": TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": settings.stat_prefix,
        "codec_type": "AUTO",
        "http_protocol_options": {"enable_trailers": True},
        "max_request_headers_kb": 96,
        "route_config": {"virtual_hosts": [_virtual_host(settings)]},
        "http_filters": [
            _filter(settings) | {"disabled": Commented("The route of marked requests enables it.", True)},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.router.v3.Router"},
            },
        ],
    }
    network_filter = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "name": "inbound",
        "address": _address(settings.listen),
        "filter_chains": [{"filters": [network_filter]}],
    }


def _virtual_host(settings: EnvoySettings) -> dict[str, Any]:
    patient = {
        "cluster": UPSTREAM,
        "timeout": Commented("Whoever debugs takes longer than the 15 s that Envoy gives by itself,", "0s"),
        "idle_timeout": Commented("and a request that is held, or stands at a breakpoint, is idle for long.", "0s"),
    }
    enabled = {"@type": TYPE + "envoy.config.route.v3.FilterConfig", "config": {}}
    marked = {
        "match": {"prefix": "/", "headers": [{"name": MARK, "present_match": True}]},
        "route": patient,
        "typed_per_filter_config": {FILTER: enabled},
    }
    routes = [
        Commented(
            "For all other requests Envoy does not even make the filter, which costs less than to skip it.", marked
        ),
        {"match": {"prefix": "/"}, "route": {"cluster": UPSTREAM}},
        _checking_route(settings),
    ]
    return {"name": "inbound", "domains": ["*"], "routes": routes}


def _checking_route(settings: FilterSettings) -> Commented:
    return Commented(
        "Never taken: the route above it takes all. Envoy checks the clusters of routes when it loads them,\n"
        "but not those that Lua names; so a cluster that is missing is refused then, and by name.",
        {"match": {"prefix": "/"}, "route": {"cluster": settings.cluster}},
    )


def _filter(settings: FilterSettings) -> dict[str, Any]:
    mark = {
        "name": "mark",
        "typed_config": {"@type": TYPE + "envoy.type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": MARK},
    }
    any_value = {"safe_regex": {"google_re2": {}, "regex": ".*"}}
    skip = {
        "name": "skip",
        "typed_config": {"@type": TYPE + "envoy.extensions.filters.common.matcher.action.v3.SkipFilter"},
    }
    unmarked = {"not_matcher": {"single_predicate": {"input": mark, "value_match": any_value}}}
    return {
        "name": FILTER,
        "typed_config": {
            "@type": TYPE + "envoy.extensions.common.matching.v3.ExtensionWithMatcher",
            "xds_matcher": Commented(
                f"Requests without the header {MARK} skip the filter.",
                {"matcher_list": {"matchers": [{"predicate": unmarked, "on_match": {"action": skip}}]}},
            ),
            "extension_config": {
                "name": "envoy.filters.http.lua",
                "typed_config": {
                    "@type": TYPE + "envoy.extensions.filters.http.lua.v3.Lua",
                    "default_source_code": {"inline_string": lua(settings)},
                },
            },
        },
    }


def _upstream_cluster(settings: EnvoySettings) -> dict[str, Any]:
    return _cluster(UPSTREAM, settings.upstream, {"explicit_http_config": _http1(enable_trailers=True)})


def _sidecar_clusters(settings: FilterSettings) -> list[Any]:
    """The sidecar's cluster, unless it is one that exists already."""
    if settings.sidecar_cluster:
        return []
    options = {
        "common_http_protocol_options": {
            "idle_timeout": Commented("Less than the sidecar keeps them, so that no call meets their end.", "30s")
        },
        "explicit_http_config": _http1(),
    }
    most = 65_536
    limits = {"max_connections": most, "max_pending_requests": most, "max_requests": most}
    breakers = Commented("Each hold keeps one connection.", {"thresholds": [limits]})
    return [_cluster(SIDECAR, settings.sidecar, options) | {"circuit_breakers": breakers}]


def _http1(**options: Any) -> dict[str, Any]:
    return {"http_protocol_options": options}


def _cluster(name: str, address: Address, http: dict[str, Any]) -> dict[str, Any]:
    protocol = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": name,
        "type": "STATIC" if _is_ip(address.host) else "STRICT_DNS",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {protocol: {"@type": TYPE + protocol} | http},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(address)}}]}],
        },
    }


def _address(address: Address) -> dict[str, Any]:
    return {"socket_address": {"address": address.host, "port_value": address.port}}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)

"""Renders Envoy configuration: a whole bootstrap, or the pieces to paste into one's own."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from squash.mark import BAGGAGE
from squash.options import Address, setting
from squash.result import MARK

from . import auto
from .front_end import SIDECAR, ClusterName, FilterSettings, FrontEnd, filters
from .matching import BAGGAGE_MARKS, TYPE
from .yaml import Commented

UPSTREAM = "squash_upstream"
ARMED = "squash_upstream_armed"
"""The same service, for requests that come while auto-debug is armed."""


@dataclass(frozen=True, kw_only=True)
class EnvoySettings(FilterSettings):
    """What a whole bootstrap needs."""

    listen: Address = setting(help="address that callers use; port 0 lets the system choose")
    upstream: Address = setting(help="address of the service behind Envoy")
    upstream_protocol: Literal["http1", "http2"] = setting(
        "http1", "what the service behind Envoy speaks: http1, or http2 without TLS as for gRPC"
    )
    admin: Address | None = setting(None, "address of Envoy's admin interface; none without it")
    stat_prefix: ClusterName = setting("squash", "prefix of the statistics of Envoy's listener")


def bootstrap(settings: EnvoySettings) -> dict[str, Any]:
    """A whole configuration: one listener, the filter, one upstream."""
    clusters = [_upstream_cluster(settings), *_sidecar_clusters(settings)]
    config: dict[str, Any] = {"static_resources": {"listeners": [_listener(settings)], "clusters": clusters}}
    if settings.auto_debug:
        clusters += _auto_clusters(settings)
        config |= _discovering(settings)
    return ({"admin": {"address": _address(settings.admin)}} if settings.admin else {}) | config


def snippet(settings: FilterSettings) -> dict[str, Any]:
    """The pieces that make an Envoy hold: the filters, a route that is never taken, the sidecar's cluster."""
    pieces: dict[str, Any] = {
        "http_filters": Commented(
            "Go before the router, in this order, and after what may refuse a request.", filters(settings)
        ),
        "routes": Commented("Goes last in a virtual host.", [_checking_route(settings)]),
    }
    if clusters := _sidecar_clusters(settings):
        pieces["clusters"] = clusters
    return pieces


def auto_snippet(settings: FilterSettings) -> dict[str, Any]:
    """The pieces that auto-debug needs beside those of `snippet`."""
    pieces: dict[str, Any] = {
        "bootstrap": Commented("Go into the bootstrap; the node may have another id.", _discovering(settings)),
        "http_filters": Commented(
            "Go before the router, after the filters of the other snippet.",
            [one | {"disabled": True} for one in auto.filters(settings)],
        ),
        "access_log": Commented("Goes beside those of your HttpConnectionManager.", [auto.access_log(settings)]),
        "upstream_http_filters": Commented(
            f"Make a second cluster that leads to your service, by the name {ARMED}, so that only requests which come\n"
            "while auto-debug is armed have these filters: the `http_filters` of its HttpProtocolOptions.",
            auto.upstream(settings),
        ),
        "routes": Commented(
            f"Go before the route that unmarked requests take; {UPSTREAM} stands for the cluster that it leads to.",
            auto.routes(UPSTREAM, ARMED),
        ),
    }
    if clusters := [*_sidecar_clusters(settings), *_sidecar_http_cluster(settings)]:
        pieces["clusters"] = [one for one in clusters if one["name"] == settings.http_cluster]
    return pieces


def _listener(settings: EnvoySettings) -> dict[str, Any]:
    ours = filters(settings)
    manager = {
        "@type": TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": settings.stat_prefix,
        "codec_type": "AUTO",
        "http_protocol_options": {"enable_trailers": True},
        "max_request_headers_kb": 96,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        **({"access_log": [auto.access_log(settings)]} if settings.auto_debug else {}),
        "route_config": {"virtual_hosts": [_virtual_host(settings)]},
        "http_filters": [
            *(one | {"disabled": Commented("The route of marked requests enables it.", True)} for one in ours),
            *(one | {"disabled": Commented("Auto-debug's routes enable it.", True)} for one in _auto_filters(settings)),
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
    holding = {
        "route": patient,
        "typed_per_filter_config": {one["name"]: enabled for one in filters(settings)},
    }
    routes = [
        Commented(
            "For all but marked requests Envoy does not even make the filters, which costs less than to skip them.",
            {"match": {"prefix": "/", "headers": [{"name": MARK, "present_match": True}]}} | holding,
        ),
        {"match": {"prefix": "/", "headers": [{"name": BAGGAGE, "safe_regex_match": BAGGAGE_MARKS}]}} | holding,
        *((auto.idle(UPSTREAM), *auto.routes(UPSTREAM, ARMED)) if settings.auto_debug else ()),
        {"match": {"prefix": "/"}, "route": {"cluster": UPSTREAM}},
        _checking_route(settings),
    ]
    return {"name": "inbound", "domains": ["*"], "routes": routes}


def _checking_route(settings: FilterSettings) -> Commented:
    return Commented(
        "Never taken: the route above it takes all. Envoy checks the clusters of routes when it loads them,\n"
        "but not all that filters name; so a cluster that is missing is refused then, and by name.",
        {"match": {"prefix": "/"}, "route": {"cluster": settings.cluster}},
    )


def _upstream_cluster(settings: EnvoySettings) -> dict[str, Any]:
    protocol = _http2() if settings.upstream_protocol == "http2" else _http1(enable_trailers=True)
    return _cluster(UPSTREAM, settings.upstream, {"explicit_http_config": protocol})


def _auto_filters(settings: FilterSettings) -> list[dict[str, Any]]:
    return auto.filters(settings) if settings.auto_debug else []


def _auto_clusters(settings: EnvoySettings) -> list[Any]:
    protocol = _http2() if settings.upstream_protocol == "http2" else _http1(enable_trailers=True)
    options = {"explicit_http_config": protocol, "http_filters": auto.upstream(settings)}
    armed = Commented(
        "The same service once more: only requests that come while a debug request with a trigger is pending take\n"
        "this way, so that all others do not even have its filters.",
        _cluster(ARMED, settings.upstream, options),
    )
    return [armed, *_sidecar_http_cluster(settings)]


def _discovering(settings: FilterSettings) -> dict[str, Any]:
    return {
        "node": Commented("Who asks for runtime values; Envoy wants it.", {"id": "squash", "cluster": "squash"}),
        "layered_runtime": auto.runtime(settings.http_cluster),
    }


def _sidecar_http_cluster(settings: FilterSettings) -> list[Any]:
    """Another way to the sidecar, unless that of the front end will do."""
    if settings.http_cluster == settings.cluster:
        return []
    return [_cluster(settings.http_cluster, settings.http_address, _idle_before_sidecar(_http1()))]


def _sidecar_clusters(settings: FilterSettings) -> list[Any]:
    """The sidecar's cluster, unless it is one that exists already."""
    if settings.sidecar_cluster:
        return []
    options = _idle_before_sidecar(_http2() if settings.front_end is FrontEnd.GRPC else _http1())
    most = 65_536
    limits = {"max_connections": most, "max_pending_requests": most, "max_requests": most}
    breakers = Commented("Each hold keeps one call open.", {"thresholds": [limits]})
    place = settings.sidecar_socket or settings.address
    return [_cluster(SIDECAR, place, options) | {"circuit_breakers": breakers}]


def _idle_before_sidecar(protocol: dict[str, Any]) -> dict[str, Any]:
    return {
        "common_http_protocol_options": {
            "idle_timeout": Commented("Less than the sidecar keeps them, so that no call meets their end.", "30s")
        },
        "explicit_http_config": protocol,
    }


def _http1(**options: Any) -> dict[str, Any]:
    return {"http_protocol_options": options}


def _http2() -> dict[str, Any]:
    return {"http2_protocol_options": {}}


def _cluster(name: str, place: Address | Path, http: dict[str, Any]) -> dict[str, Any]:
    protocol = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {
        "name": name,
        "type": "STATIC" if isinstance(place, Path) or _is_ip(place.host) else "STRICT_DNS",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {protocol: {"@type": TYPE + protocol} | http},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(place)}}]}],
        },
    }


def _address(place: Address | Path) -> dict[str, Any]:
    if isinstance(place, Path):
        return {"pipe": {"path": str(place)}}
    return {"socket_address": {"address": place.host, "port_value": place.port}}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True

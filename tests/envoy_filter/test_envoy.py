"""The rendered configuration, as Envoy itself sees it."""

import contextlib
import copy
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from envoy_filter.envoy import ARMED, EnvoySettings, auto_snippet, bootstrap, snippet
from envoy_filter.front_end import FilterSettings, FrontEnd, lua
from envoy_filter.shield import shield
from envoy_filter.yaml import dump, plain
from squash import serve
from squash.mark import BAGGAGE
from squash.options import Address
from squash.reasons import Reason
from squash.result import HEADER, MARK
from tests.envoy_filter.coordinator_double import CoordinatorDouble, refusal
from tests.envoy_filter.http_server import HttpServer, Reply, Request
from tests.envoy_filter.stack import ENVOY, envoy, grpc_address, sidecar


def settings(**given: Any) -> EnvoySettings:
    return EnvoySettings(**{"listen": Address("127.0.0.1", 0), "upstream": Address("127.0.0.1", 9)} | given)


def validate(config: dict[str, Any], directory: Path) -> subprocess.CompletedProcess[str]:
    file = directory / "envoy.yaml"
    file.write_text(dump(config))
    argv = [str(ENVOY), "--mode", "validate", "-c", str(file), "--log-level", "error"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"admin": Address("127.0.0.1", 0), "upstream_protocol": "http2"},
        {"listen": Address("::1", 0), "upstream": Address("service.example", 80), "sidecar": Address("::1", 8603)},
        {"request_timeout": 0.001, "attachment_timeout": 86_400.0, "stat_prefix": 'odd"\\%name'},
    ],
)
def test_envoy_takes_it(given: dict[str, Any], tmp_path: Path, front_end: FrontEnd) -> None:
    checked = validate(bootstrap(settings(**given, front_end=front_end)), tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "deprecated" not in checked.stderr.lower()


def test_envoy_takes_the_shield(tmp_path: Path) -> None:
    config = plain(bootstrap(settings()))
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"][:0] = shield()["http_filters"].value
    checked = validate(config, tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert yaml.safe_load(dump(shield())) == plain(shield())


@pytest.mark.parametrize("name", ["nowhere", 'odd"name\\'])
def test_unknown_cluster_is_refused_by_name(name: str, tmp_path: Path, front_end: FrontEnd) -> None:
    checked = validate(bootstrap(settings(sidecar_cluster=name, front_end=front_end)), tmp_path)
    assert checked.returncode != 0
    assert f"nknown cluster '{name}'" in checked.stderr


REFUSING = {
    "name": "refusing",
    "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
        "headers": [{"name": "x-refuse", "present_match": True}],
        "abort": {"http_status": 403, "percentage": {"numerator": 100}},
    },
}
"""A filter of the user's own, ahead of ours."""


@contextlib.asynccontextmanager
async def pasted(directory: Path, front_end: FrontEnd, sidecar: Address, upstream: HttpServer) -> AsyncIterator[str]:
    """The URL of an Envoy whose configuration has the snippet in it."""
    pieces = plain(snippet(FilterSettings(front_end=front_end, sidecar=sidecar)))
    service = Address("127.0.0.1", upstream.port)
    config = plain(bootstrap(settings(upstream=service, admin=Address("127.0.0.1", 0), auto_debug=False)))
    resources = config["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [REFUSING, *pieces["http_filters"], manager["http_filters"][-1]]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    routes[:] = [routes[2], *pieces["routes"]]
    resources["clusters"] = [resources["clusters"][0], *pieces["clusters"]]
    async with envoy(directory, config) as (_, url):
        yield url


async def test_snippet_fits_a_configuration_of_ones_own(
    tmp_path: Path, double: CoordinatorDouble, front_end: FrontEnd
) -> None:
    async def refuse(request: Request) -> Reply:
        return refusal(404, Reason.NO_PENDING_REQUEST)

    double.instead["create"] = refuse
    async with (
        HttpServer(served) as upstream,
        sidecar(tmp_path, double.url, "--grpc-listen", "127.0.0.1:0") as (child, where),
        httpx.AsyncClient(trust_env=False) as http,
    ):
        over_http = Address.parse(where.removeprefix("http://"))
        address = grpc_address(child) if front_end is FrontEnd.GRPC else over_http
        async with pasted(tmp_path, front_end, address, upstream) as url:
            assert HEADER not in (await http.get(url)).headers
            said = (await http.get(url, headers={MARK: ""})).headers[HEADER]
            assert said.startswith("no_match; ")
            marks: tuple[dict[str, str], ...] = ({}, {MARK: "1"})
            for headers in marks:
                refused = await http.get(url, headers={"x-refuse": "1"} | headers)
                assert refused.status_code == 403
                assert HEADER not in refused.headers
            await child.end()
            said = (await http.get(url, headers={MARK: ""})).headers[HEADER]
            assert said == "unavailable; reason=sidecar_unreachable"


IDLE = "squash.idle"


def routes_of(manager: dict[str, Any]) -> list[dict[str, Any]]:
    routes: list[dict[str, Any]] = manager["route_config"]["virtual_hosts"][0]["routes"]
    return routes


def test_auto_debug_can_be_pasted_too(tmp_path: Path, front_end: FrontEnd) -> None:
    """What is pasted into a configuration without it makes the one that has it from the start."""
    given = FilterSettings(front_end=front_end)
    pieces = plain(auto_snippet(given))
    config = plain(bootstrap(settings(front_end=front_end, auto_debug=False)))
    whole = plain(bootstrap(settings(front_end=front_end)))
    resources = config["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"][-1:-1] = pieces["http_filters"]
    manager["access_log"] = pieces["access_log"]
    # Pasted ahead of routes of one's own this one would replace them all, also while nothing is looked out for.
    spared = whole["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    [idle] = [one for one in routes_of(spared) if one["match"].get("runtime_fraction", {}).get("runtime_key") == IDLE]
    assert idle not in pieces["routes"]
    routes_of(manager)[2:2] = [idle, *pieces["routes"]]
    armed = copy.deepcopy(resources["clusters"][0])
    armed["name"] = armed["load_assignment"]["cluster_name"] = ARMED
    [options] = armed["typed_extension_protocol_options"].values()
    options["http_filters"] = pieces["upstream_http_filters"]
    there = {one["name"] for one in resources["clusters"]}
    resources["clusters"] += [armed, *(one for one in pieces["clusters"] if one["name"] not in there)]
    assert config | pieces["bootstrap"] == whole
    assert validate(whole, tmp_path).returncode == 0


def test_without_auto_debug_there_is_no_trace_of_it(front_end: FrontEnd) -> None:
    text = dump(bootstrap(settings(front_end=front_end, auto_debug=False)))
    assert "auto" not in text
    assert "runtime" not in text


def test_snippet_with_a_cluster_of_ones_own() -> None:
    pieces = snippet(FilterSettings(sidecar_cluster="mine"))
    assert set(pieces) == {"http_filters", "routes"}
    assert '["cluster"] = "mine"' in dump(pieces)


def test_yaml_and_json_say_the_same(front_end: FrontEnd) -> None:
    config = bootstrap(settings(front_end=front_end))
    assert yaml.safe_load(dump(config)) == plain(config)


def test_only_marked_requests_get_all_the_time_they_want() -> None:
    """An unmarked one has the timeouts of an Envoy without us, as long as the service may stand at a breakpoint."""
    config = plain(bootstrap(settings()))
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    *marked, unmarked, _ = [one for one in routes if "runtime_fraction" not in one["match"]]
    assert [one["match"]["headers"][0]["name"] for one in marked] == [MARK, BAGGAGE]
    for one in marked:
        assert (one["route"]["timeout"], one["route"]["idle_timeout"]) == ("0s", "0s")
    assert set(unmarked["route"]) == {"cluster"}
    assert not [key for key in manager if "timeout" in key]


def test_sidecar_gets_its_time_and_a_margin() -> None:
    source = lua(FilterSettings(request_timeout=2.0, attachment_timeout=30.25))
    assert '["request_timeout_ms"] = 2500' in source
    assert '["attachment_timeout_ms"] = 30750' in source


async def served(request: Request) -> Reply:
    return Reply(200, b"served")


async def test_cluster_that_lua_does_not_know_at_run_time_lets_the_request_go(tmp_path: Path) -> None:
    """Without the checking route, as in a configuration that was pasted together carelessly."""
    async with HttpServer(served) as upstream:
        config = plain(
            bootstrap(
                settings(upstream=Address("127.0.0.1", upstream.port), sidecar_cluster="nowhere", auto_debug=False)
            )
        )
        listener = config["static_resources"]["listeners"][0]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["route_config"]["virtual_hosts"][0]["routes"][-1]
        config["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}
        async with envoy(tmp_path, config, form="json") as (child, url), httpx.AsyncClient(trust_env=False) as http:
            response = await http.get(url, headers={MARK: "1"})
            assert response.text == "served"
            assert response.headers["x-squash-result"] == "unavailable; reason=sidecar_unreachable"
            assert "squash: " in child.log


def test_body_never_goes_to_the_sidecar(front_end: FrontEnd) -> None:
    assert "with_request_body" not in str(plain(snippet(FilterSettings(front_end=front_end))))


def test_each_front_end_has_its_address() -> None:
    def port(**given: Any) -> int:
        [cluster] = plain(snippet(FilterSettings(**given)))["clusters"]
        [endpoint] = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
        return int(endpoint["endpoint"]["address"]["socket_address"]["port_value"])

    assert [port(front_end=each) for each in FrontEnd] == [8603, 8604, 8603]
    assert port(front_end=FrontEnd.GRPC, sidecar=Address("127.0.0.1", 7)) == 7


def test_envoy_gives_up_idle_connections_before_the_sidecar_does() -> None:
    [cluster] = plain(snippet(FilterSettings()))["clusters"]
    [options] = cluster["typed_extension_protocol_options"].values()
    idle = options["common_http_protocol_options"]["idle_timeout"]
    assert float(idle.removesuffix("s")) < serve.KEEP_ALIVE

"""The rendered configuration, as Envoy itself sees it."""

import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from envoy_filter.envoy import EnvoySettings, FilterSettings, bootstrap, lua, snippet
from envoy_filter.yaml import dump, plain
from squash import serve
from squash.options import Address
from squash.result import MARK
from tests.envoy_filter.http_server import HttpServer, Reply, Request
from tests.envoy_filter.stack import ENVOY, envoy


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
        {"admin": Address("127.0.0.1", 0)},
        {"listen": Address("::1", 0), "upstream": Address("service.example", 80), "sidecar": Address("::1", 8603)},
        {"request_timeout": 0.001, "attachment_timeout": 86_400.0, "stat_prefix": 'odd"\\%name'},
    ],
)
def test_envoy_takes_it(given: dict[str, Any], tmp_path: Path) -> None:
    checked = validate(bootstrap(settings(**given)), tmp_path)
    assert checked.returncode == 0, checked.stderr
    assert "deprecated" not in checked.stderr.lower()


@pytest.mark.parametrize("name", ["nowhere", 'odd"name\\'])
def test_unknown_cluster_is_refused_by_name(name: str, tmp_path: Path) -> None:
    checked = validate(bootstrap(settings(sidecar_cluster=name)), tmp_path)
    assert checked.returncode != 0
    assert f"unknown cluster '{name}'" in checked.stderr


async def test_snippet_fits_a_configuration_of_ones_own(tmp_path: Path) -> None:
    async with HttpServer(served) as upstream, HttpServer(no_match) as sidecar:
        pieces = plain(snippet(FilterSettings(sidecar=Address("127.0.0.1", sidecar.port))))
        config = plain(bootstrap(settings(upstream=Address("127.0.0.1", upstream.port), admin=Address("127.0.0.1", 0))))
        resources = config["static_resources"]
        manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
        manager["http_filters"] = [*pieces["http_filters"], manager["http_filters"][-1]]
        routes = manager["route_config"]["virtual_hosts"][0]["routes"]
        routes[:] = [routes[1], *pieces["routes"]]
        resources["clusters"] = [resources["clusters"][0], *pieces["clusters"]]
        async with envoy(tmp_path, config) as (_, url), httpx.AsyncClient(trust_env=False) as http:
            assert "x-squash-result" not in (await http.get(url)).headers
            assert (await http.get(url, headers={MARK: ""})).headers["x-squash-result"] == "no_match"


def test_snippet_with_a_cluster_of_ones_own() -> None:
    pieces = snippet(FilterSettings(sidecar_cluster="mine"))
    assert set(pieces) == {"http_filters", "routes"}
    assert '["cluster"] = "mine"' in dump(pieces)


def test_yaml_and_json_say_the_same() -> None:
    config = bootstrap(settings())
    assert yaml.safe_load(dump(config)) == plain(config)


def test_only_marked_requests_get_all_the_time_they_want() -> None:
    """An unmarked one has the timeouts of an Envoy without us, as long as the service may stand at a breakpoint."""
    config = plain(bootstrap(settings()))
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    marked, unmarked, _ = manager["route_config"]["virtual_hosts"][0]["routes"]
    assert marked["match"]["headers"] == [{"name": MARK, "present_match": True}]
    assert (marked["route"]["timeout"], marked["route"]["idle_timeout"]) == ("0s", "0s")
    assert set(unmarked["route"]) == {"cluster"}
    assert not [key for key in manager if "timeout" in key]


def test_sidecar_gets_its_time_and_a_margin() -> None:
    source = lua(FilterSettings(request_timeout=2.0, attachment_timeout=30.25))
    assert '["request_timeout_ms"] = 2500' in source
    assert '["attachment_timeout_ms"] = 30750' in source


async def no_match(request: Request) -> Reply:
    return Reply(200, b"", (("x-squash-result", "no_match"),))


async def served(request: Request) -> Reply:
    return Reply(200, b"served")


async def test_cluster_that_lua_does_not_know_at_run_time_lets_the_request_go(tmp_path: Path) -> None:
    """Without the checking route, as in a configuration that was pasted together carelessly."""
    async with HttpServer(served) as upstream:
        config = plain(bootstrap(settings(upstream=Address("127.0.0.1", upstream.port), sidecar_cluster="nowhere")))
        listener = config["static_resources"]["listeners"][0]
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["route_config"]["virtual_hosts"][0]["routes"][-1]
        config["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}
        async with envoy(tmp_path, config, form="json") as (child, url), httpx.AsyncClient(trust_env=False) as http:
            response = await http.get(url, headers={MARK: "1"})
            assert response.text == "served"
            assert response.headers["x-squash-result"] == "unavailable; reason=sidecar_unreachable"
            assert "squash: " in child.log


def test_envoy_gives_up_idle_connections_before_the_sidecar_does() -> None:
    [cluster] = plain(snippet(FilterSettings()))["clusters"]
    [options] = cluster["typed_extension_protocol_options"].values()
    idle = options["common_http_protocol_options"]["idle_timeout"]
    assert float(idle.removesuffix("s")) < serve.KEEP_ALIVE

"""What is compared: our configuration, and the same without any trace of us."""

import json

import pytest

from bench.envoy import Config, direct, read_wrk, without
from bench.measure import BenchError
from envoy_filter.envoy import EnvoySettings, bootstrap
from envoy_filter.yaml import plain
from squash.options import Address
from squash.result import MARK

WRK = """Running 2s test @ http://127.0.0.1:1
  1 threads and 64 connections
  141304 requests in 2.00s, 11.45MB read
{errors}Requests/sec:  70652.11
Transfer/sec:      5.73MB
"""


@pytest.fixture
def config() -> Config:
    settings = EnvoySettings(
        listen=Address("127.0.0.1", 0),
        upstream=Address("127.0.0.1", 1),
        sidecar=Address("127.0.0.1", 2),
        stat_prefix="inbound",
    )
    rendered: Config = plain(bootstrap(settings))
    return rendered


def manager(config: Config) -> Config:
    found: Config = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def test_without_us_nothing_of_us_is_left(config: Config) -> None:
    bare = json.dumps(without(config)).replace("squash_upstream", "upstream")
    assert "squash" not in bare
    assert MARK not in bare


def test_without_us_all_the_rest_is_left(config: Config) -> None:
    ours, bare = manager(config), manager(without(config))
    assert [one["name"] for one in bare["http_filters"]] == ["envoy.filters.http.router"]
    routes = ours["route_config"]["virtual_hosts"][0]["routes"]
    [left] = bare["route_config"]["virtual_hosts"][0]["routes"]
    assert left in routes
    same = {key for key in bare if ours[key] == bare[key]}
    assert set(bare) == same | {"http_filters", "route_config"}
    assert set(ours) == set(bare) | {"access_log"}


def test_direct_answers_only_what_is_not_marked(config: Config) -> None:
    before = manager(config)["route_config"]["virtual_hosts"][0]["routes"]
    after = manager(direct(config))["route_config"]["virtual_hosts"][0]["routes"]
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert {"prefix": "/"} in [new["match"] for _, new in changed]
    for old, new in changed:
        assert old["match"] == new["match"]
        assert "headers" not in old["match"]
        assert old["route"] == {"cluster": "squash_upstream"}
        assert new["direct_response"]["status"] == 200
        assert "route" not in new


def test_wrk_is_understood() -> None:
    assert read_wrk(WRK.format(errors="")) == (70652.11, 141304)


@pytest.mark.parametrize(
    "error",
    [
        "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
        "  Non-2xx or 3xx responses: 12\n",
    ],
)
def test_a_run_with_errors_is_no_run(error: str) -> None:
    with pytest.raises(BenchError, match=error.strip()):
        read_wrk(WRK.format(errors=error))


def test_words_that_are_not_wrks_are_shown() -> None:
    with pytest.raises(BenchError, match="unable to connect"):
        read_wrk("unable to connect to 127.0.0.1:1 Connection refused\n")

import json
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from envoy_filter.command import app

NEEDED = ("--listen", "127.0.0.1:0", "--upstream", "127.0.0.1:5000")


def run(*flags: str) -> Result:
    return CliRunner().invoke(app, ["config", *flags])


def clusters(config: dict[str, Any]) -> dict[str, Any]:
    return {cluster["name"]: cluster for cluster in config["static_resources"]["clusters"]}


def test_prints_a_bootstrap() -> None:
    done = run(*NEEDED, "--sidecar", "10.0.0.7:99", "--admin", "127.0.0.1:9901")
    assert done.exit_code == 0
    config = yaml.safe_load(done.stdout)
    assert config["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 9901}
    [endpoints] = clusters(config)["squash_sidecar"]["load_assignment"]["endpoints"]
    [endpoint] = endpoints["lb_endpoints"]
    assert endpoint["endpoint"]["address"]["socket_address"] == {"address": "10.0.0.7", "port_value": 99}
    assert "# Requests without the header x-squash-debug and without" in done.stdout


def test_json_says_the_same() -> None:
    assert json.loads(run(*NEEDED, "--json").stdout) == yaml.safe_load(run(*NEEDED).stdout)


@pytest.mark.parametrize("front_end", ["lua", "grpc", "http"])
def test_each_front_end(front_end: str) -> None:
    done = run(*NEEDED, "--front-end", front_end, "--upstream-protocol", "http2")
    assert done.exit_code == 0
    config = yaml.safe_load(done.stdout)
    [listener] = config["static_resources"]["listeners"]
    every = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    filters = [one for one in every if "auto" not in one["name"]]
    pasted = yaml.safe_load(run("--snippet", "--front-end", front_end).stdout)["http_filters"]
    assert filters[:-1] == [one | {"disabled": True} for one in pasted]
    assert ("lua" in str(pasted)) == (front_end == "lua")
    assert f"{front_end}_service" in str(pasted) or front_end == "lua"


def test_shield() -> None:
    text = CliRunner().invoke(app, ["shield"]).stdout
    assert text.startswith("# Goes before the router")
    assert "x-envoy-max-retries" in text
    as_json = CliRunner().invoke(app, ["shield", "--json"]).stdout
    assert json.loads(as_json) == yaml.safe_load(text)


def test_auto_debug() -> None:
    flags = ["auto-debug", "--front-end", "grpc", "--sidecar-http", "127.0.0.1:9", "--attachment-timeout", "30"]
    done = CliRunner().invoke(app, flags)
    assert done.exit_code == 0
    pieces = yaml.safe_load(done.stdout)
    assert set(pieces) == {"bootstrap", "http_filters", "access_log", "upstream_http_filters", "routes", "clusters"}
    assert '["attachment_timeout_ms"] = 30500' in done.stdout
    assert json.loads(CliRunner().invoke(app, [*flags, "--json"]).stdout) == pieces
    named = CliRunner().invoke(app, ["auto-debug", "--failure-headers", "X-Cause,age"]).stdout
    assert "%RESP(X-Cause):" in named
    assert "x-squash-answer-x-cause" in named
    assert "%RESP(age):" in named
    assert "%RESP(server)" not in named
    assert "failure_headers" in CliRunner().invoke(app, ["auto-debug", "--failure-headers", "a b"]).output
    refused = CliRunner().invoke(app, ["auto-debug", "--sidecar-http", "127.0.0.1:0"])
    assert refused.exit_code == 2
    assert "sidecar_http" in refused.output


def test_edge() -> None:
    text = CliRunner().invoke(app, ["edge"]).stdout
    assert text.startswith("# Takes x-squash-debug and the member squash of baggage off requests from outside")
    as_json = CliRunner().invoke(app, ["edge", "--json"]).stdout
    assert json.loads(as_json) == yaml.safe_load(text)


def test_a_sidecar_that_pods_share() -> None:
    done = run(*NEEDED, "--sidecar-socket", "/run/squash/s", "--shared", "--front-end", "http")
    assert done.exit_code == 0
    cluster = clusters(yaml.safe_load(done.stdout))["squash_sidecar"]
    [endpoints] = cluster["load_assignment"]["endpoints"]
    assert endpoints["lb_endpoints"][0]["endpoint"]["address"] == {"pipe": {"path": "/run/squash/s"}}
    assert cluster["type"] == "STATIC"
    assert "%ENVIRONMENT(SQUASH_POD)%" in done.stdout


def test_snippet_needs_no_addresses() -> None:
    done = run("--snippet", "--sidecar-cluster", "mine", "--request-timeout", "2", "--attachment-timeout", "30")
    assert done.exit_code == 0
    assert set(yaml.safe_load(done.stdout)) == {"http_filters", "routes"}
    assert '["attachment_timeout_ms"] = 30500' in done.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--listen", "8080"), "listen = '8080' (from --listen) cannot be used: expected HOST:PORT"),
        (("--upstream", "a:99999"), "upstream = 'a:99999' (from --upstream) cannot be used"),
        (("--upstream", "a:0"), "upstream = 'a:0' cannot be used"),
        (("--sidecar", "127.0.0.1:0"), "sidecar = '127.0.0.1:0' cannot be used"),
        (("--request-timeout", "0"), "request_timeout = '0' (from --request-timeout) cannot be used"),
        (("--attachment-timeout", "soon"), "attachment_timeout = 'soon' (from --attachment-timeout) cannot be used"),
        (("--sidecar-cluster", "two words"), "cannot be used: expected at most 200 printable ASCII characters without"),
        (("--sidecar-cluster", "mine\n"), "sidecar_cluster = 'mine\\n' (from --sidecar-cluster) cannot be used"),
        (("--sidecar-cluster", "mine", "--sidecar", "a:1"), "sidecar_cluster = 'mine' cannot be used together with"),
        (("--sidecar-socket", "/s", "--sidecar", "a:1"), "sidecar_socket = '/s' cannot be used together with"),
        (
            ("--front-end", "wasm"),
            "front_end = 'wasm' (from --front-end) cannot be used: expected one of lua, grpc, http",
        ),
        (("--upstream-protocol", "http3"), "upstream_protocol = 'http3' (from --upstream-protocol) cannot be used"),
        (("--admin", "nonsense"), "admin = 'nonsense' (from --admin) cannot be used"),
    ],
)
def test_bad_values_are_refused(flags: tuple[str, ...], said: str) -> None:
    done = run(*NEEDED, *flags)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def test_missing_addresses_are_named() -> None:
    assert "listen is missing: give --listen HOST:PORT" in run("--upstream", "a:1").stderr
    assert "upstream is missing: give --upstream HOST:PORT" in run("--listen", "a:1").stderr

"""The Envoy through which a caller calls: impatient, and eager to try again."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from envoy_filter.envoy import EnvoySettings, bootstrap
from envoy_filter.shield import shield
from envoy_filter.yaml import plain
from squash.options import Address
from tests.envoy_filter.stack import envoy


def impatient(route: dict[str, Any], timeout: float) -> None:
    """What a mesh does by itself, on a route."""
    route["timeout"] = f"{timeout}s"
    route["retry_policy"] = {
        "retry_on": "5xx,reset,connect-failure",
        "num_retries": 2,
        "per_try_timeout": f"{timeout / 2}s",
    }


@contextlib.asynccontextmanager
async def outbound(directory: Path, url: str, *, timeout: float, shielded: bool = True) -> AsyncIterator[str]:
    """The URL of an Envoy in front of `url` that gives each request `timeout` seconds and three tries."""
    directory.mkdir()  # noqa: ASYNC240 - a local directory
    settings = EnvoySettings(
        listen=Address("127.0.0.1", 0),
        upstream=Address.parse(url.removeprefix("http://")),
        admin=Address("127.0.0.1", 0),
    )
    config = plain(bootstrap(settings))
    # There is no sidecar to learn from what is armed.
    del config["layered_runtime"]
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [*(plain(shield())["http_filters"] if shielded else []), manager["http_filters"][-1]]
    host = manager["route_config"]["virtual_hosts"][0]
    host["routes"] = [route for route in host["routes"] if set(route["match"]) == {"prefix"}][:1]
    impatient(host["routes"][0]["route"], timeout)
    config["static_resources"]["clusters"] = config["static_resources"]["clusters"][:1]
    async with envoy(directory, config) as (_, entrance):
        yield entrance

"""Caller, a real Envoy with the filter, the real sidecar, and an upstream that writes down what it gets."""

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from envoy_filter.envoy import EnvoySettings, bootstrap
from envoy_filter.front_end import FrontEnd
from envoy_filter.yaml import dump, plain
from squash.options import Address
from squash.result import HEADER, MARK, Result, parse
from tests.envoy_filter.child import BIN, Child
from tests.envoy_filter.http_server import HttpServer, Reply, Request

ROOT = Path(__file__).parents[2]
ENVOY = Path(os.environ.get("SQUASH_ENVOY") or ROOT / ".venv-envoy/bin/envoy")
MARKED = {MARK: "true"}
Change = Callable[[dict[str, Any]], None]


class Upstream(HttpServer):
    """Answers 200 `served` to all, and keeps each request."""

    def __init__(self) -> None:
        super().__init__(self._keep)
        self.requests: list[Request] = []
        self._came = asyncio.Condition()

    async def _keep(self, request: Request) -> Reply:
        async with self._came:
            self.requests.append(request)
            self._came.notify_all()
        return Reply(200, b"served", (("x-upstream", "yes"), (HEADER, "nonsense of the upstream")))

    async def served(self, count: int) -> None:
        async with self._came, asyncio.timeout(60):
            await self._came.wait_for(lambda: len(self.requests) >= count)


@dataclass
class Stack:
    upstream: Upstream
    sidecar: Child
    sidecar_url: str
    envoy: Child
    url: str
    admin: str
    http: httpx.AsyncClient

    async def get(self, path: str = "/cart", headers: dict[str, str] | None = None) -> httpx.Response:
        """A marked request."""
        return await self.http.get(self.url + path, headers=MARKED | (headers or {}))

    async def metrics(self) -> dict[str, float]:
        text = (await self.http.get(self.sidecar_url + "/metrics")).text
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


def result(response: httpx.Response) -> Result:
    """What the response says of the hold; the request was served by the upstream, whatever it says."""
    assert response.status_code == 200, response.text
    assert response.text == "served"
    found = parse(response.headers[HEADER])
    assert str(found) == response.headers[HEADER]
    return found


@contextlib.asynccontextmanager
async def running(child: Child) -> AsyncIterator[Child]:
    try:
        yield child
    finally:
        await child.end()


@contextlib.asynccontextmanager
async def sidecar(
    directory: Path, server_url: str, *flags: str, env: dict[str, str] | None = None
) -> AsyncIterator[tuple[Child, str]]:
    """A real sidecar and its URL."""
    argv = (BIN / "squash-sidecar", "--listen", "127.0.0.1:0", "--server-url", server_url, *flags)
    given = {"SQUASH_POD": "pricing-1", "SQUASH_NAMESPACE": "demo"} | (env or {})
    async with running(await Child.start(argv, directory / "sidecar.log", given)) as child:
        yield child, await child.ready()


def grpc_address(child: Child) -> Address:
    """Where a sidecar that is ready answers over gRPC."""
    found = re.search(r"answers ext_authz over gRPC.*listen=(\S+)", child.log)
    assert found, child.log
    return Address.parse(found[1])


@contextlib.asynccontextmanager
async def envoy(
    directory: Path, config: dict[str, Any], *, form: str = "yaml", env: dict[str, str] | None = None
) -> AsyncIterator[tuple[Child, str]]:
    """A real Envoy and the URL of its first listener."""
    text = dump(config) if form == "yaml" else json.dumps(plain(config))
    (directory / f"envoy.{form}").write_text(text)
    admin = directory / "admin.txt"
    # Several Envoys run side by side here, so that none may look for another's shared memory.
    flags = ("--concurrency", "1", "--disable-hot-restart", "--admin-address-path", admin, "--log-level", "warning")
    argv: tuple[str | Path, ...] = (ENVOY, "-c", directory / f"envoy.{form}", *flags)
    async with running(await Child.start(argv, directory / "envoy.log", env)) as child:
        yield child, await _listening(child, admin)


async def _listening(child: Child, admin: Path) -> str:
    """Envoy announces nothing, so its admin interface is asked until it is live."""
    async with asyncio.timeout(60), httpx.AsyncClient() as client:
        while True:
            with contextlib.suppress(OSError, httpx.HTTPError):
                address = f"http://{admin.read_text()}"  # noqa: ASYNC240 - a line of a local file
                if (await client.get(f"{address}/ready")).status_code == 200:
                    break
            await asyncio.sleep(0.02)
        answer = (await client.get(f"{address}/listeners?format=json")).json()
    socket = answer["listener_statuses"][0]["local_address"]["socket_address"]
    return f"http://{socket['address']}:{socket['port_value']}"


@contextlib.asynccontextmanager
async def stack(
    directory: Path,
    server_url: str,
    *,
    request_timeout: float = 10.0,
    attachment_timeout: float = 60.0,
    front_end: FrontEnd = FrontEnd.LUA,
    upstream_protocol: Literal["http1", "http2"] = "http1",
    upstream_port: int | None = None,
    change: Change = lambda config: None,
    more: Sequence[str] = (),
) -> AsyncIterator[Stack]:
    """All of it, in front of the coordinator at `server_url`.

    `change` works on Envoy's configuration, `more` are the sidecar's flags.
    """
    flags = [*more, "--request-timeout", str(request_timeout), "--attachment-timeout", str(attachment_timeout)]
    if front_end is FrontEnd.GRPC:
        flags += ["--grpc-listen", "127.0.0.1:0"]
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(Upstream())
        child, url = await stack.enter_async_context(sidecar(directory, server_url, *flags, "--poll-period", "0.2"))
        settings = EnvoySettings(
            listen=Address("127.0.0.1", 0),
            upstream=Address("127.0.0.1", upstream_port or upstream.port),
            upstream_protocol=upstream_protocol,
            front_end=front_end,
            sidecar=grpc_address(child) if front_end is FrontEnd.GRPC else Address.parse(url.removeprefix("http://")),
            sidecar_http=Address.parse(url.removeprefix("http://")) if front_end is FrontEnd.GRPC else None,
            admin=Address("127.0.0.1", 0),
            request_timeout=request_timeout,
            attachment_timeout=attachment_timeout,
        )
        config = plain(bootstrap(settings))
        change(config)
        proxy, entrance = await stack.enter_async_context(envoy(directory, config))
        limits = httpx.Limits(max_connections=None)
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=90, limits=limits, trust_env=False))
        admin = "http://" + (directory / "admin.txt").read_text()
        yield Stack(upstream, child, url, proxy, entrance, admin, http)

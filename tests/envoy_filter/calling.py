"""A sidecar's process, and a caller that speaks to it as the Lua filter does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from envoy_filter.headers import HOLD
from squash.result import HEADER, Result, parse
from tests.envoy_filter.child import Child
from tests.envoy_filter.coordinator_double import CoordinatorDouble
from tests.envoy_filter.http_server import Request
from tests.envoy_filter.stack import sidecar

HALF = b"HTTP/1.1 201 Created\r\ncontent-length: 900\r\n\r\n{"
TOLD = {"x-squash-method": "GET", "x-squash-path": "/cart", "x-request-id": "7"}


class Caller:
    """Makes the two calls of the Lua filter."""

    def __init__(self, child: Child, url: str, http: httpx.AsyncClient) -> None:
        self.child = child
        self.url = url
        self._http = http

    async def get(self, path: str) -> httpx.Response:
        return await self._http.get(self.url + path)

    async def place(self) -> httpx.Response:
        return await self._http.post(self.url + "/holds", headers=TOLD)

    async def hold(self) -> Result:
        answer = await self.place()
        if answer.status_code == 202:
            answer = await self.get(f"/holds/{answer.headers[HOLD]}")
        assert answer.status_code == 200, answer
        return parse(answer.headers[HEADER])

    async def hang_up(self) -> None:
        """Places a hold, asks for it, and hangs up without reading the answer."""
        name = (await self.place()).headers[HOLD]
        address = httpx.URL(self.url)
        _, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(f"GET /holds/{name} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        writer.close()
        await writer.wait_closed()

    async def holds_open(self) -> bool:
        return "squash_sidecar_open_holds 0.0" not in (await self.get("/metrics")).text


@contextlib.asynccontextmanager
async def calling(directory: Path, double: CoordinatorDouble, *flags: str) -> AsyncIterator[Caller]:
    async with (
        sidecar(directory, double.url, "--poll-period", "0.1", *flags) as (child, url),
        httpx.AsyncClient(timeout=60, trust_env=False) as http,
    ):
        yield Caller(child, url, http)


async def hang(request: Request) -> None:
    await asyncio.get_running_loop().create_future()

"""A service behind a real Envoy, with the real coordinator and sidecar, where debug requests have triggers."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from envoy_filter.front_end import FrontEnd
from envoy_filter.told import SLOW_FROM
from squash.calls import create_request, get_attachment, get_request, patch_attachment
from squash.client import AsyncClient
from squash.model import DebugAttachment, DebugRequest, RequestSpec, State, StatusPatch, Trigger
from squash.result import MARK
from tests.envoy_filter.child import Child
from tests.envoy_filter.http_server import HttpServer, Reply, Request
from tests.envoy_filter.stack import Change, Stack, stack
from tests.envoy_filter.test_with_coordinator import container, coordinator


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Waits for a fact that tells nobody when it changes, like those of Envoy's admin interface."""
    async with asyncio.timeout(60):
        while True:
            if await look():
                return
            await asyncio.sleep(0.02)


class Service(HttpServer):
    """Fails requests for /fails with the status that they name, unless they bear the mark; for /claims wants more."""

    def __init__(self) -> None:
        super().__init__(self._serve)
        self.tries: Counter[str] = Counter()
        self.requests: list[Request] = []
        self.pauses: dict[str, float] = {}
        self.hopeless = False
        """Whether what fails does so with the mark, too."""

    async def _serve(self, request: Request) -> Reply:
        self.tries[request.target] += 1
        self.requests.append(request)
        if pause := self.pauses.get(request.path):
            await asyncio.sleep(pause)
        if request.path == "/claims":
            return Reply(500 if "fails" in request.query else 200, b"first", (("x-squash-replay", "yes"),))
        fails = self.hopeless or request.header(MARK) is None
        if request.path.startswith("/fails") and fails:
            status = int(request.query.get("status", "500"))
            headers = (("content-type", "text/sad"), ("retry-after", "7"), ("x-secret", "s3cret"))
            return Reply(status, b"first", headers)
        return Reply(200, b"second" if self.tries[request.target] > 1 else b"fine")


class World:
    def __init__(self, service: Service, held: Stack, client: AsyncClient, process: Child) -> None:
        self.service = service
        self.held = held
        self.client = client
        self.process = process

    async def wish(self, *, armed: bool = True, **terms: Any) -> str:
        """Makes a debug request, and waits until Envoy looks out for it."""
        spec = RequestSpec(image="demo/pricing", debugger="", **({"trigger": Trigger.FAILURE} | terms))
        name = (await self.client.send(create_request(DebugRequest(spec=spec)))).name
        if armed:
            await self.until_runtime(1)
        return name

    async def stats(self) -> dict[str, float]:
        text = (await self.held.http.get(self.held.admin + "/stats?filter=runtime|retry|rq_total")).text
        pairs = (line.rsplit(": ", 1) for line in text.splitlines())
        return {name: float(value) for name, value in pairs if value.strip().isdigit()}

    async def armed(self) -> bool:
        return await runtime_value(self, "idle") == "0" or await runtime_value(self, SLOW_FROM) is not None

    async def until_runtime(self, wanted: int) -> None:
        """Waits until Envoy is armed (1) or not (0)."""

        async def as_wanted() -> bool:
            return await self.armed() == bool(wanted)

        await until(as_wanted)

    async def send(self, target: str, method: str = "GET", **given: Any) -> httpx.Response:
        return await self.held.http.request(method, self.held.url + target, **given)

    async def matched(self, wish: str) -> DebugAttachment:
        """The attachment, once a held request has met the wish."""
        found = await self.client.send(get_request(wish, wait=30))
        assert found.status.debug_attachment_ref is not None
        return await self.client.send(get_attachment(found.status.debug_attachment_ref))

    async def attach(self, name: str) -> None:
        await self.client.send(patch_attachment(name, StatusPatch(state=State.ATTACHING, agent="a")))
        await self.client.send(patch_attachment(name, StatusPatch(state=State.ATTACHED)))


@contextlib.asynccontextmanager
async def worlds(
    directory: Path,
    front_end: FrontEnd = FrontEnd.LUA,
    request_timeout: float = 30.0,
    change: Change = lambda config: None,
    more: Sequence[str] = (),
) -> AsyncIterator[World]:
    """The real ones; `more` are the sidecar's flags.

    Envoy waits a tenth of `request_timeout` for a word of the sidecar on whether to hold.
    """
    async with (
        container(directory),
        coordinator(directory) as (process, url),
        AsyncClient(url) as client,
        Service() as service,
        stack(
            directory,
            url,
            front_end=front_end,
            request_timeout=request_timeout,
            upstream_port=service.port,
            change=change,
            more=more,
        ) as held,
    ):
        yield World(service, held, client, process)


async def armed_for(world: World, kind: str) -> bool:
    return await runtime_value(world, kind) == "100"


async def slow_from(world: World, milliseconds: int) -> bool:
    return await runtime_value(world, SLOW_FROM) == str(milliseconds)


async def runtime_value(world: World, kind: str) -> str | None:
    entries = (await world.held.http.get(world.held.admin + "/runtime")).json()["entries"]
    value: str | None = entries.get(f"squash.{kind}", {}).get("final_value")
    return value

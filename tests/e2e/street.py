"""What the end-to-end tests look at: pods of a world, requests through them, and debug attachments on their way."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from demo.shop import PRICING, STOCK_PROGRAM, Pod
from demo.story import facts, open_holds
from demo.world import World
from squash.calls import changes, create_request, get_request
from squash.client import Client
from squash.model import DebugAttachment, DebugRequest, HoldUntil, Phase, RequestSpec, State
from squash.result import HEADER, MARK, Result, parse
from tests.eventually import eventually

COUNTING = Path(__file__).parent / "counting.py"
PROGRAMS = {
    "counting": [sys.executable, str(COUNTING)],
    "pricing": [sys.executable, str(PRICING), "--listen", "127.0.0.1:0"],
    "stock": [str(STOCK_PROGRAM), "--listen", "127.0.0.1:0"],
}
FREE = {"tracer": 0, "stopped": False, "debugger": False}
SOON = 10.0
"""Seconds in which a process whose debugger lost one of its parts runs untraced: a promise to users."""


class Street:
    """A world with pods in it; `client` talks to its coordinator."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.coordinator = world.coordinator()
        self.client: Client = world.client()

    def pod(
        self, name: str, *, program: str = "", command: Sequence[str] = (), attachment_timeout: float = 60.0
    ) -> Pod:
        """One with this command, or else with one of PROGRAMS, the one of its name if none is said."""
        options = patience(attachment_timeout)
        service = self.world.service(name, f"demo/{name}", command or PROGRAMS[program or name])
        sidecar = self.world.sidecar(name, *options)
        envoy = self.world.envoy(name, service.where, sidecar.where, *options)
        return Pod(name, f"demo/{name}", service, sidecar, envoy)

    def wish(self, pod: Pod, hold_until: HoldUntil = HoldUntil.READY, debugger: str = "") -> str:
        """A new debug request's name."""
        spec = RequestSpec(image=pod.image, debugger=debugger, hold_until=hold_until)
        return self.client.send(create_request(DebugRequest(spec=spec))).name

    async def matched(self, wish: str) -> str:
        """The debug attachment's name."""
        found = await asyncio.to_thread(self.client.send, get_request(wish, wait=60))
        assert found.status.debug_attachment_ref
        return found.status.debug_attachment_ref

    async def until(self, name: str, good: Callable[[DebugAttachment], bool]) -> DebugAttachment:
        """The attachment as soon as it is good."""
        since = ""
        async with asyncio.timeout(60):
            while True:
                call = changes(since=since, names=[name], wait=30)
                news = await asyncio.to_thread(self.client.send, call)
                since = news.revision
                if found := [each for each in news.attachments if each.name == name and good(each)]:
                    return found[0]

    async def listening(self, wish: str) -> DebugAttachment:
        """Once a client can connect."""

        def good(found: DebugAttachment) -> bool:
            assert found.status.state is not State.ERROR, f"{found.status.reason}: {found.status.message}"
            return found.status.phase is Phase.LISTENING

        return await self.until(await self.matched(wish), good)

    def close(self) -> None:
        self.client.close()


class Caller:
    """Sends requests, in the background as long as nobody awaits them."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self.http = httpx.AsyncClient(timeout=90, limits=limits, trust_env=False)

    async def get(self, url: str, *, marked: bool = True) -> httpx.Response:
        return await self.http.get(url, headers={MARK: "1"} if marked else {})

    async def post(self, url: str, body: bytes) -> httpx.Response:
        return await self.http.post(url, content=body, headers={MARK: "1"})

    async def counts(self, pod: Pod) -> dict[str, int]:
        """What has reached the service, by path; asked behind Envoy's back."""
        found: dict[str, int] = (await self.http.get(f"{pod.service.where}/counts")).json()
        return found


def patience(attachment_timeout: float) -> tuple[str, ...]:
    """Options of a sidecar and its Envoy: the longest hold in seconds, on a slow and busy machine."""
    return ("--attachment-timeout", str(attachment_timeout), "--request-timeout", "10")


def result(answer: httpx.Response) -> Result:
    assert answer.status_code == 200, answer.text
    return parse(answer.headers[HEADER])


def free(pod: Pod) -> None:
    """The service runs, and no debugger is in it, or soon so."""
    pid = pod.service.pid
    assert eventually(lambda: facts(pid), lambda found: found == FREE, SOON) == FREE
    assert pod.service.process.poll() is None


def running(pod: Pod) -> None:
    """The service runs untraced, or soon so; a debugger may sit in it and wait."""

    def look() -> tuple[Any, Any]:
        found = facts(pod.service.pid)
        return found["tracer"], found["stopped"]

    assert eventually(look, lambda found: found == (0, False), SOON) == (0, False)


def no_holds(pod: Pod) -> None:
    assert eventually(lambda: open_holds(pod), lambda number: number == 0) == 0

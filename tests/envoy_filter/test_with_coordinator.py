"""The whole path with the real coordinator: a marked request meets a debug request."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from squash.calls import (
    changes,
    create_request,
    delete_attachment,
    delete_request,
    get_attachment,
    get_request,
    list_attachments,
    patch_attachment,
    release_attachment,
)
from squash.client import AsyncClient
from squash.model import DebugAttachment, DebugRequest, Outcome, RequestSpec, State, StatusPatch
from squash.reasons import Reason
from squash.tasks import spawn
from tests.envoy_filter.child import BIN, Child
from tests.envoy_filter.stack import Stack, result, running, stack

CONTAINER = {"SQUASH_POD": "pricing-1", "SQUASH_NAMESPACE": "demo", "SQUASH_IMAGE": "demo/pricing"}


@contextlib.asynccontextmanager
async def coordinator(directory: Path, listen: str = "127.0.0.1:0") -> AsyncIterator[tuple[Child, str]]:
    """A real coordinator with its objects in a file of `directory`, and its URL."""
    place = ("--listen", listen, "--database", directory / "coordinator.db")
    # The tests are the agent, and take their time.
    argv = (BIN / "squash-coordinator", *place, "--agent-lease", "3600")
    async with running(await Child.start(argv, directory / "coordinator.log")) as child:
        yield child, await child.ready()


@contextlib.asynccontextmanager
async def container(directory: Path) -> AsyncIterator[None]:
    """A process that counts as a container; it does nothing."""
    async with running(await Child.start(("sleep", "infinity"), directory / "container.log", CONTAINER)):
        yield


class World:
    def __init__(self, process: Child, url: str, client: AsyncClient, held: Stack) -> None:
        self.process = process
        self.url = url
        self.client = client
        self.held = held

    async def wish(self) -> str:
        """Makes a debug request; its name."""
        spec = RequestSpec(image="demo/pricing", debugger="")
        return (await self.client.send(create_request(DebugRequest(spec=spec)))).name

    async def matched(self, wish: str) -> str:
        """The attachment's name, once a held request has met the wish."""
        found = await self.client.send(get_request(wish, wait=30))
        assert found.status.debug_attachment_ref is not None
        return found.status.debug_attachment_ref

    async def outcome(self, name: str) -> DebugAttachment:
        """The attachment, once it says how the hold ended."""
        revision = ""
        async with asyncio.timeout(30):
            while True:
                news = await self.client.send(changes(since=revision, wait=30))
                revision = news.revision
                for attachment in news.attachments:
                    if attachment.name == name and attachment.status.outcome:
                        return attachment


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with (
        container(tmp_path),
        coordinator(tmp_path) as (process, url),
        AsyncClient(url) as client,
        stack(tmp_path, url) as held,
    ):
        yield World(process, url, client, held)


async def test_nothing_pending(world: World) -> None:
    said = result(await world.held.get())
    assert (said.outcome, said.reason) == (Outcome.NO_MATCH, Reason.NO_PENDING_REQUEST)
    assert await world.client.send(list_attachments()) == []


async def test_attached(world: World) -> None:
    wish = await world.wish()
    marked = spawn(world.held.get("/cart?x=1"), "get")
    name = await world.matched(wish)
    held = await world.client.send(get_attachment(name))
    assert held.spec.held is not None
    assert held.spec.held.path == "/cart?x=1"
    await world.client.send(patch_attachment(name, StatusPatch(state=State.ATTACHING, agent="a")))
    await world.client.send(patch_attachment(name, StatusPatch(state=State.ATTACHED)))
    said = result(await marked)
    assert (said.outcome, said.id) == (Outcome.ATTACHED, name)
    assert (await world.outcome(name)).status.outcome is Outcome.ATTACHED


async def test_released_by_a_developer(world: World) -> None:
    wish = await world.wish()
    marked = spawn(world.held.get(), "get")
    name = await world.matched(wish)
    await world.client.send(release_attachment(name))
    said = result(await marked)
    assert (said.outcome, said.reason) == (Outcome.RELEASED, Reason.RELEASED)


async def test_debug_request_withdrawn(world: World) -> None:
    wish = await world.wish()
    marked = spawn(world.held.get(), "get")
    await world.matched(wish)
    await world.client.send(delete_request(wish))
    assert result(await marked).outcome is Outcome.RELEASED


async def test_attachment_deleted(world: World) -> None:
    wish = await world.wish()
    marked = spawn(world.held.get(), "get")
    name = await world.matched(wish)
    await world.client.send(delete_attachment(name))
    said = result(await marked)
    assert (said.outcome, said.reason) == (Outcome.RELEASED, Reason.DELETED)


async def test_caller_goes_away(world: World) -> None:
    wish = await world.wish()
    marked = spawn(world.held.get(), "get")
    name = await world.matched(wish)
    marked.cancel()
    status = (await world.outcome(name)).status
    assert (status.state, status.reason, status.outcome) == (State.ERROR, Reason.CALLER_GONE, Outcome.CALLER_GONE)
    assert world.held.upstream.requests == []


async def test_coordinator_killed_and_started_again_while_held(world: World, tmp_path: Path) -> None:
    wish = await world.wish()
    marked = spawn(world.held.get(), "get")
    name = await world.matched(wish)
    assert await world.process.end(signal.SIGKILL) == -signal.SIGKILL
    async with coordinator(tmp_path, world.url.removeprefix("http://")):
        assert not marked.done()
        await world.client.send(patch_attachment(name, StatusPatch(state=State.ATTACHED)))
        said = result(await marked)
        assert (said.outcome, said.id) == (Outcome.ATTACHED, name)
        assert (await world.outcome(name)).status.outcome is Outcome.ATTACHED


async def test_coordinator_killed_for_good(world: World) -> None:
    await world.process.end(signal.SIGKILL)
    marked = spawn(world.held.get(), "get")
    world.held.sidecar.send(signal.SIGTERM)
    assert result(await marked).outcome is Outcome.UNAVAILABLE

"""Many sessions at once on one agent and one coordinator, each with its own talk: nothing is lost, nothing mixed up."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.streams import Stream
from demo.world import BIN, ROOT, Child, World
from squash import dap
from squash.calls import create_attachment, get_attachment
from squash.client import AsyncClient
from squash.model import AttachmentSpec, DebugAttachment, State
from squash.splice import Splice
from squash.tasks import spawn
from squash.tunnel import Guest, client_path
from squash.websocket import dial
from tests.soak import echoing
from tests.soak.width import rounds

pytestmark = pytest.mark.timeout(600)

SESSIONS = rounds(30, 300)
TALKS = 20
LONGEST = 60_000


def start_agent(world: World, url: str, plugins: Path) -> Child:
    argv = [str(BIN / "squash-agent"), "--node", "here", "--runtime-dir", str(world.directory / "agent")]
    path = {"PYTHONPATH": f"{plugins}:{ROOT}"}
    return world.start("agent", [*argv, "--server-url", url, "--concurrency", "50"], stage=3, environment=path)


@asynccontextmanager
async def session(url: str, name: str) -> AsyncIterator[Stream]:
    tunnel = await dial(url, client_path(name, Guest(client=f"{name}@test")))
    ours, theirs = socket.socketpair()
    splicing = spawn(Splice(*await asyncio.open_connection(sock=theirs), tunnel).run(), "client's end")
    stream = Stream(*await asyncio.open_connection(sock=ours))
    try:
        yield stream
    finally:
        await stream.close()
        await splicing


async def talk(stream: Stream, name: str) -> int:
    """Asks many things, of every length, without waiting; each answer must be its own. Returns how many came."""
    dice = random.Random(name)  # noqa: S311 - no secret
    asked = {seq: f"{name} {seq} " + "x" * dice.randrange(LONGEST) for seq in range(1, TALKS + 1)}

    async def ask() -> None:
        for seq, text in asked.items():
            stream.writer.write(dap.message(seq=seq, type="request", command="echo", arguments={"text": text}))
            await stream.writer.drain()

    asking = spawn(ask(), "asking")
    reader, came = dap.Reader(), 0
    while came < TALKS and (data := await stream.reader.read(65_536)):
        for raw in reader.feed(data):
            came += 1
            answer = json.loads(raw)
            assert answer["seq"] == answer["request_seq"] == came
            assert answer["body"]["text"] == asked[came]
    await asking
    return came


async def test_each_session_hears_its_own_answers(tmp_path: Path) -> None:
    echoing.install(tmp_path)
    with World("sq") as world:
        url = world.coordinator().where
        start_agent(world, url, tmp_path)
        for number in range(SESSIONS):
            world.service(f"pod-{number}", "demo/many", ["sh", "-c", "echo pod ready on nothing; exec sleep 600"])
        everybody = asyncio.Barrier(SESSIONS)

        async with AsyncClient(url, timeout=120) as client:

            async def one(number: int) -> int:
                place = {"pod": f"pod-{number}", "namespace": world.namespace}
                wanted = DebugAttachment(spec=AttachmentSpec(attachment=place, debugger="echoing"))
                made = await client.send(create_attachment(wanted))
                found = await client.send(get_attachment(made.name, wait=200))
                assert found.status.state is State.ATTACHED, found.status
                async with session(url, made.name) as stream:
                    # All of them are open before the first one talks.
                    await everybody.wait()
                    return await talk(stream, made.name)

            came = await asyncio.gather(*(one(number) for number in range(SESSIONS)))
        assert came == [TALKS] * SESSIONS

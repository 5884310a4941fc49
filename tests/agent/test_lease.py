"""The agent's lease, with a real coordinator that comes and goes."""

import asyncio
from typing import Any

import pytest

from agent import lease
from agent.lease import Lease
from demo.world import World
from squash.calls import Call, get_attachment, list_agents
from squash.client import AsyncClient, Client
from squash.errors import ApiError
from squash.model import Agent, Phase, State
from squash.reasons import Reason
from squash.tasks import spawn
from tests.agent.test_agent import attach, eventually, phase_of, service, threads


def agents(client: Client) -> list[Agent]:
    return client.send(list_agents())


class Slow(AsyncClient):
    """A client whose coordinator answers when it is told to."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:1")
        self.asked: list[asyncio.Future[None]] = []
        self.enough = asyncio.Event()

    async def send(self, call: Any, timeout: float | None = None) -> Any:
        self.asked.append(asyncio.get_running_loop().create_future())
        if len(self.asked) == 3:
            self.enough.set()
        await self.asked[-1]


async def test_renewals_do_not_wait_for_late_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW", 0.01)
    let_go: list[int] = []
    async with Slow() as client:
        renewed = Lease(client, Agent(name="a", node="here"), lambda: let_go.append(1), lambda: None)
        renewing = spawn(renewed.run(), "lease")
        await client.enough.wait()
        client.asked[0].set_result(None)
        renewing.cancel()
        await asyncio.wait({renewing})
        assert renewing.cancelled()
        assert not let_go
        assert all(each.done() for each in client.asked), "nothing is renewed any more after the end"


def test_it_is_listed_while_it_lives(world: World) -> None:
    world.coordinator()
    agent = world.agent()
    with world.client() as client:
        (there,) = eventually(lambda: agents(client), bool)
        assert (there.node, there.lost) == ("here", False)
        assert {"debugpy", "gdb"} <= set(there.debuggers)
        later = eventually(lambda: agents(client)[0], lambda found: (found.seen or 0) > (there.seen or 0))
        assert later.since == there.since
        assert agent.stop() == 0
        assert agents(client) == []


def test_two_agents_of_a_node(world: World) -> None:
    world.coordinator()
    world.agent(name="agent-a")
    world.agent(name="agent-b")
    with world.client() as client:
        found = eventually(lambda: agents(client), lambda found: len(found) == 2)
        assert {agent.lost for agent in found} == {False}


def test_a_lost_agents_attachment_ends(world: World) -> None:
    world.coordinator()
    agent, app = world.agent(), service(world)
    with world.client() as client:
        attached = attach(client)
        agent.kill()
        lost = eventually(lambda: client.send(get_attachment(attached.name)), lambda a: a.status.state is State.ERROR)
        assert lost.status.reason is Reason.AGENT_LOST
        assert threads(app.pid) == 1


@pytest.mark.parametrize("watched", [False, True])
def test_an_agent_alone_lets_go_unless_a_client_is_there(world: World, watched: bool) -> None:
    from demo.dap import Dap

    coordinator = world.coordinator()
    world.agent()
    app, other = service(world), service(world, "other", "demo/other")
    with world.client() as client:
        first, second = attach(client), attach(client, pod="other")
    dap = Dap(second.status.debug_server_address or "") if watched else None
    if dap:
        dap.attach({})
    coordinator.kill()
    assert eventually(lambda: threads(app.pid), lambda n: n == 1) == 1
    if dap:
        assert dap.ask("threads")["threads"]
        dap.close()
    assert eventually(lambda: threads(other.pid), lambda n: n == 1) == 1
    world.coordinator()
    with world.client() as client:
        after = phase_of(client, first.name, Phase.DETACHED).status
        assert (after.state, after.reason) == (State.ATTACHED, Reason.COORDINATOR_UNREACHABLE)


class Refusing(AsyncClient):
    """A coordinator that always answers so."""

    def __init__(self, code: int) -> None:
        super().__init__("http://127.0.0.1:9")
        self._code = code

    async def send(self, call: Call[Any], timeout: float | None = None) -> Any:
        raise ApiError(self._code, Reason.INVALID, "no")


@pytest.mark.parametrize(("code", "renewed"), [(404, True), (405, True), (401, False), (403, False), (503, False)])
async def test_a_refusal_renews_nothing_unless_there_are_no_leases(code: int, renewed: bool) -> None:
    async with Refusing(code) as client:
        found = Lease(client, Agent(name="x", node="n"), lambda: None, lambda: None)
        assert await found._renewed() is renewed

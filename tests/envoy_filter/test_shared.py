"""One sidecar that several pods share, by a unix socket, on real Envoys with each front end."""

import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from envoy_filter.envoy import EnvoySettings, bootstrap
from envoy_filter.front_end import FrontEnd
from envoy_filter.yaml import plain
from squash.model import Outcome, State
from squash.options import Address
from squash.reasons import Reason
from squash.result import HEADER, MARK, Result, parse
from squash.tasks import spawn
from tests.envoy_filter.child import Child
from tests.envoy_filter.coordinator_double import CoordinatorDouble
from tests.envoy_filter.stack import Upstream, envoy, sidecar

FREE = Address("127.0.0.1", 0)
MARKED = {MARK: "1"}


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose sockets have names short enough (unix(7): 107 bytes)."""
    with tempfile.TemporaryDirectory(prefix="squash-") as name:
        yield Path(name)


class Node:
    """The shared sidecar, and as many pods as are wanted, each with an Envoy of its own."""

    def __init__(self, directory: Path, sockets: Path, front_end: FrontEnd, upstream: Upstream, child: Child) -> None:
        self.directory = directory
        self.sockets = sockets
        self.front_end = front_end
        self.upstream = upstream
        self.child = child

    @contextlib.asynccontextmanager
    async def pod(self, name: str, *, claims: str | None = None, **environ: str) -> AsyncIterator[str]:
        """The URL of its Envoy; `claims` is a pod that it says it is."""
        settings = EnvoySettings(
            listen=FREE,
            upstream=Address("127.0.0.1", self.upstream.port),
            front_end=self.front_end,
            sidecar_socket=self.sockets / ("grpc" if self.front_end is FrontEnd.GRPC else "http"),
            shared=True,
            admin=FREE,
            request_timeout=10.0,
        )
        text = json.dumps(plain(bootstrap(settings)))
        if claims:
            lied = text.replace("%ENVIRONMENT(SQUASH_POD)%", claims)
            text = lied.replace("os.getenv(variable)", f"(variable == 'SQUASH_POD' and '{claims}')")
        place = self.directory / f"pod-{name}"
        place.mkdir()
        config: dict[str, Any] = json.loads(text)
        async with envoy(place, config, env={"SQUASH_POD": name, **environ}) as (_, url):
            yield url


@pytest.fixture
async def node(tmp_path: Path, short: Path, double: CoordinatorDouble, front_end: FrontEnd) -> AsyncIterator[Node]:
    flags = ["--listen-socket", str(short / "http"), "--peers", "local", "--max-holds-per-pod", "2"]
    flags += ["--request-timeout", "10", "--poll-period", "0.2"]
    if front_end is FrontEnd.GRPC:
        flags += ["--grpc-listen-socket", str(short / "grpc")]
    async with Upstream() as upstream, sidecar(tmp_path, double.url, *flags) as (child, _):
        yield Node(tmp_path, short, front_end, upstream, child)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        yield client


def said(response: httpx.Response) -> Result:
    assert (response.status_code, response.text) == (200, "served")
    return parse(response.headers[HEADER])


async def test_each_request_is_of_the_pod_at_the_other_end(
    node: Node, double: CoordinatorDouble, http: httpx.AsyncClient
) -> None:
    async with node.pod("a-1", SQUASH_NAMESPACE="shop", SQUASH_CONTAINER="app") as a, node.pod("b-1") as b:
        marked = []
        for number, url in enumerate((a, b), 1):
            marked.append(spawn(http.get(url, headers=MARKED), "get"))
            await double.created(number)
        found = [attachment.spec.attachment for attachment in double.attachments.values()]
        assert found == [
            {"pod": "a-1", "namespace": "shop", "container": "app"},
            {"pod": "b-1", "namespace": "default"},
        ]
        for name in list(double.attachments):
            await double.change(name, State.ATTACHED)
        assert [said(await each).outcome for each in marked] == [Outcome.ATTACHED] * 2


async def test_a_pod_speaks_for_itself_alone(node: Node, double: CoordinatorDouble, http: httpx.AsyncClient) -> None:
    async with node.pod("liar-1", claims="victim-1") as url:
        result = said(await http.get(url, headers=MARKED))
        assert (result.outcome, result.reason) == (Outcome.ERROR, Reason.POD_MISMATCH)
    assert double.calls == []
    await node.child.end()
    assert "a process of pod default/liar-1 claimed to speak for default/victim-1" in node.child.log


async def test_whoever_is_of_no_pod(node: Node, double: CoordinatorDouble, http: httpx.AsyncClient) -> None:
    async with node.pod("") as url:
        result = said(await http.get(url, headers=MARKED))
        assert (result.outcome, result.reason) == (Outcome.ERROR, Reason.POD_UNKNOWN)
    assert double.calls == []


async def test_strangers_cannot_say_whose_request_it_is(
    node: Node, double: CoordinatorDouble, http: httpx.AsyncClient
) -> None:
    async with node.pod("a-1") as url:
        headers = MARKED | {"x-squash-pod": "victim-1", "x-squash-container": "other"}
        marked = spawn(http.get(url, headers=headers), "get")
        [name] = await double.created()
        assert double.attachments[name].spec.attachment == {"pod": "a-1", "namespace": "default"}
        await double.change(name, State.ATTACHED)
        assert said(await marked).outcome is Outcome.ATTACHED
        # They are the service's own business all the same.
        assert node.upstream.requests[-1].header("x-squash-pod") == "victim-1"


async def test_no_pod_takes_the_room_of_others(node: Node, double: CoordinatorDouble, http: httpx.AsyncClient) -> None:
    async with node.pod("a-1") as a, node.pod("b-1") as b:
        first = [spawn(http.get(a, headers=MARKED), "get") for _ in range(2)]
        await double.created(2)
        result = said(await http.get(a, headers=MARKED))
        assert (result.outcome, result.reason) == (Outcome.OVERLOADED, Reason.TOO_MANY_HOLDS)
        other = spawn(http.get(b, headers=MARKED), "get")
        for name in await double.created(3):
            await double.change(name, State.ATTACHED)
        assert {said(await each).outcome for each in (*first, other)} == {Outcome.ATTACHED}
        again = spawn(http.get(a, headers=MARKED), "get")
        await double.change((await double.created(4))[-1], State.ATTACHED)
        assert said(await again).outcome is Outcome.ATTACHED

"""Containers of a real Docker engine: by name, id, and what Compose and Swarm call them."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from agent.containers.docker import DockerContainers
from agent.process import Process
from coordinator.platforms import located
from coordinator.platforms.docker import DockerPlatform
from squash.errors import ApiError, SettingError
from squash.model import AttachmentSpec
from squash.reasons import Reason
from squash.runtimes.docker import LABELS
from squash.settings import AgentSettings, CoordinatorSettings
from tests.runtimes.conftest import TWO
from tests.runtimes.engine import Engine


class Shop:
    """Containers of one test; `project` is its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.project = f"p{uuid4().hex[:8]}"
        self._made: list[Any] = []

    def run(self, name: str, image: str = TWO, **told: str) -> Any:
        labels = {LABELS[key]: value for key, value in told.items()}
        made = self._engine.client.containers.run(image, detach=True, name=self.name(name), labels=labels)
        self._made.append(made)
        return made

    def serve(self, service: str, number: int = 1) -> Any:
        return self.run(f"{service}-{number}", project=self.project, service=service, number=str(number))

    def name(self, name: str) -> str:
        return f"{self.project}-{name}"

    def close(self) -> None:
        for container in self._made:
            container.remove(force=True)


@pytest.fixture
def shop(docker_engine: Engine) -> Iterator[Shop]:
    made = Shop(docker_engine)
    yield made
    made.close()


@pytest.fixture
async def platform(docker_engine: Engine) -> AsyncIterator[DockerPlatform]:
    settings = CoordinatorSettings(docker_host=docker_engine.host, node="here", mesh_proxies=("envoy",))
    found = DockerPlatform(settings)
    yield found
    await found.close()


@pytest.fixture
async def containers(docker_engine: Engine) -> AsyncIterator[DockerContainers]:
    found = DockerContainers(AgentSettings(docker_host=docker_engine.host))
    yield found
    await found.close()


async def test_by_name_id_service_and_pod(shop: Shop, platform: DockerPlatform) -> None:
    made = shop.serve("pricing")
    ways: list[Mapping[str, str]] = [
        {"container": made.name},
        {"pod": made.name},
        {"id": made.id},
        {"container": made.id[:12]},
        {"project": shop.project, "service": "pricing"},
        {"project": shop.project, "service": "pricing", "number": "1"},
    ]
    found = [await platform.locate(way) for way in ways]
    assert {one.attachment["id"] for one in found} == {made.id}
    assert found[0].attachment == {
        "container": made.name,
        "id": made.id,
        "project": shop.project,
        "service": "pricing",
        "number": "1",
    }
    assert found[0].node == "here"


async def test_the_containers_are_listed(shop: Shop, platform: DockerPlatform) -> None:
    made, proxy = shop.serve("pricing"), shop.serve("envoy")
    found = {one.attachment["id"]: one for one in await platform.containers()}
    assert (await platform.locate(found[made.id].attachment)).attachment["id"] == made.id
    assert [found[each.id].mesh_proxy for each in (made, proxy)] == [False, True]


async def test_swarm_labels(shop: Shop, platform: DockerPlatform) -> None:
    made = shop.run("task", swarm_service=f"{shop.project}_web", task=f"{shop.project}_web.1")
    found = await platform.locate({"swarm_service": f"{shop.project}_web"})
    assert found.attachment["id"] == made.id


async def test_every_word_of_swarm(shop: Shop, platform: DockerPlatform) -> None:
    """A service has tasks on many nodes; here is one of them."""
    stack, service = shop.project, f"{shop.project}_web"
    made = [shop.run(f"t{n}", stack=stack, swarm_service=service, task=f"{service}.{n}.abc") for n in (1, 2)]
    for way, expected in (
        ({"swarm_service": service, "task": f"{service}.1.abc"}, made[0]),
        ({"task": f"{service}.2.abc"}, made[1]),
        ({"stack": stack, "swarm_service": service}, made[1]),
        ({"container": made[0].name}, made[0]),
    ):
        found = await platform.locate(way)
        assert found.attachment["id"] == expected.id, way
    assert found.attachment["task"] == f"{service}.1.abc"


async def test_the_beginning_of_an_id_must_mean_one(shop: Shop, platform: DockerPlatform) -> None:
    made = shop.serve("web")
    for length in (12, 20, 64):
        assert (await platform.locate({"id": made.id[:length]})).attachment["id"] == made.id
    for unfit in (made.id[:11], made.id[:12].upper() if made.id[:12] != made.id[:12].upper() else "x" * 12):
        with pytest.raises(ApiError) as caught:
            await platform.locate({"id": unfit})
        assert caught.value.reason is Reason.CONTAINER_NOT_FOUND


async def test_youngest_of_a_service_is_meant(shop: Shop, platform: DockerPlatform) -> None:
    shop.serve("web", 1)
    second = shop.serve("web", 2)
    found = await platform.locate({"project": shop.project, "service": "web"})
    assert found.attachment["id"] == second.id


async def test_project_alone_is_ambiguous_but_for_the_proxies(shop: Shop, platform: DockerPlatform) -> None:
    web = shop.serve("web")
    shop.serve("envoy")
    assert (await platform.locate({"project": shop.project})).attachment["id"] == web.id
    shop.serve("stock")
    with pytest.raises(ApiError) as caught:
        await platform.locate({"project": shop.project})
    assert caught.value.reason is Reason.CONTAINER_AMBIGUOUS
    assert shop.name("stock-1") in caught.value.message
    assert shop.name("web-1") in caught.value.message


async def test_images_compare_by_every_name(shop: Shop, platform: DockerPlatform) -> None:
    made = shop.run("named", TWO.removesuffix(":latest"))
    for name in (TWO, TWO.removesuffix(":latest"), made.image.id):
        spec = await located(platform, AttachmentSpec(attachment={"container": made.name}, image=name))
        assert spec.image == TWO.removesuffix(":latest")
    with pytest.raises(ApiError) as caught:
        await located(platform, AttachmentSpec(attachment={"container": made.name}, image="squash.test/three"))
    assert caught.value.reason is Reason.IMAGE_MISMATCH


async def of_two(containers: DockerContainers, named: Mapping[str, str]) -> list[Process]:
    """Both processes: an engine says that a container runs while it is runc still, for a moment."""
    found: list[Process] = []

    async def look() -> bool:
        found[:] = await containers.processes(named)
        return len(found) == 2

    async with asyncio.timeout(30):
        while not await look():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)
    return found


async def test_agent_gets_the_processes(shop: Shop, containers: DockerContainers) -> None:
    made = shop.serve("web")
    for named in ({"id": made.id, "container": "ignored"}, {"container": made.name}):
        found = await of_two(containers, named)
        assert [process.exe for process in found] == ["/two", "/two"]
        assert found[1].ppid == found[0].pid
    made.kill()
    made.wait()
    assert await containers.processes({"id": made.id}) == []
    assert await containers.processes({"note": "names nothing"}) == []


async def test_unknown_container_lists_what_there_is(shop: Shop, platform: DockerPlatform) -> None:
    shop.serve("web")
    with pytest.raises(ApiError) as caught:
        await platform.locate({"container": "none-such"})
    assert caught.value.reason is Reason.CONTAINER_NOT_FOUND
    assert f"{shop.name('web-1')} ({shop.project}/web)" in caught.value.message


@pytest.mark.parametrize("attachment", [{}, {"note": "x"}, {"pod": ""}])
async def test_nothing_named(platform: DockerPlatform, attachment: dict[str, str]) -> None:
    with pytest.raises(ApiError) as caught:
        await platform.locate(attachment)
    assert caught.value.reason is Reason.CONTAINER_NOT_FOUND


def test_no_engine_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="there is no such socket"):
        DockerPlatform(CoordinatorSettings(docker_host=f"unix://{tmp_path}/none.sock"))


def test_what_is_no_engine_is_explained() -> None:
    refused = pytest.raises(SettingError, match="docker_host cannot be used")
    with socket.create_server(("127.0.0.1", 0)) as deaf, closing_each_caller(deaf), refused:
        DockerPlatform(CoordinatorSettings(docker_host=f"tcp://127.0.0.1:{deaf.getsockname()[1]}"))


@contextmanager
def closing_each_caller(server: socket.socket) -> Iterator[None]:
    def work() -> None:
        with suppress(OSError):
            while True:
                server.accept()[0].close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        thread.join()

"""Containers of a real containerd: found, resolved to processes, told apart from what was there before."""

import os
import select
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agent.containers import members
from agent.containers.cri import CriContainers
from coordinator.platforms import located
from coordinator.platforms.cri import CriPlatform
from squash import procfs
from squash.errors import ApiError, SettingError, SquashError
from squash.model import AttachmentSpec
from squash.reasons import Reason
from squash.runtimes.cri import NAMESPACE, POD, Cri
from squash.runtimes.sockets import find_socket
from squash.settings import AgentSettings, CoordinatorSettings
from tests.runtimes.conftest import TWO
from tests.runtimes.containerd import Containerd
from tests.runtimes.kubelet import Pod


class Pods:
    """Pods of one test, in a namespace of their own."""

    def __init__(self, runtime: Containerd) -> None:
        self.runtime = runtime
        self.namespace = f"ns-{uuid4().hex[:8]}"
        self._made: list[Pod] = []

    def make(self, name: str) -> Pod:
        made = self.runtime.kubelet.pod(name, self.namespace)
        self._made.append(made)
        return made

    def close(self) -> None:
        """What one test leaves would stand in the lists that another one is shown."""
        for pod in self._made:
            pod.remove()

    def named(self, pod: str, container: str | None = None) -> dict[str, str]:
        return {"pod": pod, "namespace": self.namespace} | ({"container": container} if container else {})


@pytest.fixture
def pods(runtime: Containerd) -> Iterator[Pods]:
    made = Pods(runtime)
    yield made
    made.close()


@pytest.fixture
async def containers(runtime: Containerd) -> AsyncIterator[CriContainers]:
    found = CriContainers(AgentSettings(runtime_socket=runtime.socket))
    yield found
    await found.close()


@pytest.fixture
async def platform(runtime: Containerd) -> AsyncIterator[CriPlatform]:
    found = CriPlatform(CoordinatorSettings(runtime_socket=runtime.socket, node="here", mesh_proxies=("proxy",)))
    yield found
    await found.close()


async def test_processes_are_the_containers_own_init_first(pods: Pods, containers: CriContainers) -> None:
    pod = pods.make("one")
    pod.run("app", TWO)
    pod.run("other", TWO)
    found = await containers.processes(pods.named("one", "app"))
    others = await containers.processes(pods.named("one", "other"))
    assert [process.exe for process in found] == ["/two", "/two"]
    assert found[1].ppid == found[0].pid
    assert {process.pid for process in found}.isdisjoint(process.pid for process in others)


async def test_restarted_container_is_another_process(pods: Pods, containers: CriContainers) -> None:
    """As it is when the first one crashed: for a moment the runtime may still list it."""
    pod, named = pods.make("again"), pods.named("again", "app")
    pod.run("app", TWO)
    before = await containers.processes(named)
    os.kill(before[0].pid, signal.SIGKILL)
    pod.run("app", TWO)
    after = await containers.processes(named)
    assert after
    assert after[0].alive
    assert after[0].pid != before[0].pid


async def test_container_that_has_ended_has_no_processes(pods: Pods, containers: CriContainers) -> None:
    named = pods.named("over", "app")
    pods.make("over").run("app", TWO)
    (init, *_) = await containers.processes(named)
    end = os.pidfd_open(init.pid)
    os.kill(init.pid, signal.SIGKILL)
    select.select([end], [], [], 10)
    os.close(end)
    assert not init.alive
    assert await containers.processes(named) == []


async def test_unknown_container_has_no_processes(pods: Pods, containers: CriContainers) -> None:
    assert await containers.processes(pods.named("nowhere", "app")) == []


async def test_the_lower_rungs_find_the_same(pods: Pods, containers: CriContainers, runtime: Containerd) -> None:
    """Runtimes that tell no pid: by the container's cgroup; the mount namespace finds them as well."""
    ident = pods.make("old").run("app", TWO)
    found = await containers.processes(pods.named("old", "app"))
    assert members.of_container(ident) == found
    assert members.of_mount_namespace(procfs.namespace(found[0].pid, "mnt")) == found


async def test_descent_finds_the_children_where_cgroups_cannot_be_read(
    pods: Pods, containers: CriContainers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pods.make("blind").run("app", TWO)
    found = await containers.processes(pods.named("blind", "app"))
    monkeypatch.setattr(members, "CGROUPS", tmp_path)
    assert members.of_init(found[0].pid) == found


async def test_platform_completes_the_attachment(pods: Pods, platform: CriPlatform) -> None:
    pod = pods.make("shop")
    ident = pod.run("app", TWO)
    pod.run("proxy", TWO)
    found = await platform.locate({**pods.named("shop"), "note": 1})
    assert found.attachment == {**pods.named("shop", "app"), "note": 1, "id": ident}
    assert (found.image, found.node) == (TWO, "here")
    assert found.image in found.images


async def test_an_image_is_known_by_every_name(pods: Pods, platform: CriPlatform, runtime: Containerd) -> None:
    pods.make("names").run("app", TWO)
    found = await platform.locate(pods.named("names", "app"))
    async with Cri(runtime.socket) as cri:
        (container,) = await cri.running({POD: "names", NAMESPACE: pods.namespace})
        names = await cri.image_names(container)
        ident = next(name for name in names if name.startswith("sha256:"))
        # As kubelets have it: the container runs the image by its id.
        assert await cri.image_names(container._replace(image=ident, image_ref=ident)) == names
    assert TWO in names
    assert found.images == names
    for name in (TWO, TWO.removesuffix(":latest"), ident):
        assert (await located(platform, AttachmentSpec(attachment=pods.named("names"), image=name))).image == TWO
    with pytest.raises(ApiError) as caught:
        await located(platform, AttachmentSpec(attachment=pods.named("names"), image="squash.test/two:2"))
    assert caught.value.reason is Reason.IMAGE_MISMATCH


async def test_an_image_run_by_its_id_has_a_name_all_the_same(pods: Pods, platform: CriPlatform) -> None:
    pods.make("kept").run("app", TWO)
    names = (await platform.locate(pods.named("kept", "app"))).images
    ident = next(name for name in names if name.startswith("sha256:"))
    pods.make("by-id").run("app", ident)
    assert (await platform.locate(pods.named("by-id", "app"))).image == TWO


async def test_the_container_itself_is_found_by_its_id(pods: Pods, containers: CriContainers) -> None:
    pod, named = pods.make("twice"), pods.named("twice", "app")
    first = pod.run("app", TWO)
    (init, *_) = await containers.processes({**named, "id": first})
    os.kill(init.pid, signal.SIGKILL)
    pod.run("app", TWO)
    again = await containers.processes({**named, "id": first})
    assert again
    assert again[0].pid != init.pid
    assert members.of_init(again[0].pid, first) == [], "that pid is another container's"


async def test_platform_lists_what_there_is(pods: Pods, platform: CriPlatform) -> None:
    pods.make("there").run("app", TWO)
    with pytest.raises(ApiError) as caught:
        await platform.locate(pods.named("elsewhere"))
    assert (caught.value.code, caught.value.reason) == (404, Reason.CONTAINER_NOT_FOUND)
    assert f"{pods.namespace}/there (app)" in caught.value.message


async def test_platform_lists_its_containers(pods: Pods, platform: CriPlatform) -> None:
    pods.make("listed").run("app", TWO)
    found = [one for one in await platform.containers() if one.attachment["namespace"] == pods.namespace]
    assert [(one.image, one.node, one.attachment) for one in found] == [(TWO, "here", pods.named("listed", "app"))]


async def test_platform_asks_which_of_several(pods: Pods, platform: CriPlatform) -> None:
    pod = pods.make("two")
    pod.run("a", TWO)
    pod.run("b", TWO)
    with pytest.raises(ApiError) as caught:
        await platform.locate(pods.named("two"))
    assert caught.value.reason is Reason.CONTAINER_AMBIGUOUS
    assert "a, b" in caught.value.message


async def test_labels_select(pods: Pods, runtime: Containerd) -> None:
    pods.make("x").run("app", TWO)
    async with Cri(runtime.socket) as cri:
        (found,) = await cri.running({POD: "x", NAMESPACE: pods.namespace})
        assert (found.pod, found.namespace, found.name) == ("x", pods.namespace, "app")
        assert await cri.pid(found.id)
        assert await cri.pid("0" * 64) is None
        assert (await cri.output(found, ["nothing-like-it"])) is None


async def test_socket_without_a_runtime_is_explained(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="there is no such socket"):
        find_socket(tmp_path / "none")
    with pytest.raises(SettingError, match="no container runtime found"):
        find_socket(None, tmp_path)
    async with Cri(tmp_path / "none") as cri:
        with pytest.raises(SquashError) as caught:
            await cri.running({})
    assert caught.value.reason is Reason.RUNTIME_UNREACHABLE


def test_the_first_socket_that_is_there_is_taken(runtime: Containerd, tmp_path: Path) -> None:
    k3s = tmp_path / "run/k3s/containerd/containerd.sock"
    k3s.parent.mkdir(parents=True)
    k3s.symlink_to(runtime.socket)
    assert find_socket(None, tmp_path) == k3s

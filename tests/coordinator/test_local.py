"""The platform `local` on real processes."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest

from coordinator import platforms
from coordinator.platforms import Container, local
from coordinator.platforms.local import LocalPlatform
from squash import local as processes
from squash.errors import ApiError, SettingError
from squash.local import LocalProcess
from squash.model import AttachmentSpec
from squash.reasons import Reason
from squash.settings import CoordinatorSettings
from tests.coordinator.program import Pods


@pytest.fixture
def platform() -> LocalPlatform:
    return LocalPlatform(CoordinatorSettings(node="here", mesh_proxies=("proxy",)))


@pytest.fixture
def name() -> str:
    return f"pod-{uuid4().hex}"


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each scan."""
    scans: list[int] = []
    scan = processes.scan

    def counting() -> Iterator[LocalProcess]:
        scans.append(1)
        return scan()

    monkeypatch.setattr(processes, "scan", counting)
    return scans


async def test_container_is_completed(platform: LocalPlatform, pods: Pods, name: str) -> None:
    pods.run(name, "registry/demo/app:1")
    found = await platform.locate({"pod": name, "note": 1})
    expected = {"pod": name, "note": 1, "namespace": "default", "container": "app"}
    assert found == Container("registry/demo/app:1", "here", expected)


async def test_empty_text_means_absent(platform: LocalPlatform, pods: Pods, name: str) -> None:
    pods.run(name, "app")
    assert (await platform.locate({"pod": name, "namespace": "", "container": ""})).image == "app"


async def test_namespaces_are_apart(platform: LocalPlatform, pods: Pods, name: str) -> None:
    pods.run(name, "one", namespace="a")
    pods.run(name, "two", namespace="b")
    assert (await platform.locate({"pod": name, "namespace": "b"})).image == "two"
    with pytest.raises(ApiError) as caught:
        await platform.locate({"pod": name})
    assert caught.value.reason is Reason.CONTAINER_NOT_FOUND


async def test_proxy_is_left_out(platform: LocalPlatform, pods: Pods, name: str) -> None:
    pods.run(name, "mesh", container="proxy")
    pods.run(name, "app", container="app")
    assert (await platform.locate({"pod": name})).image == "app"
    assert (await platform.locate({"pod": name, "container": "proxy"})).image == "mesh"


async def test_several_are_listed(platform: LocalPlatform, pods: Pods, name: str) -> None:
    pods.run(name, "b")
    pods.run(name, "a")
    with pytest.raises(ApiError, match="a, b") as caught:
        await platform.locate({"pod": name})
    assert (caught.value.code, caught.value.reason) == (404, Reason.CONTAINER_AMBIGUOUS)


async def test_unknown_pod_shows_what_there_is(platform: LocalPlatform, pods: Pods) -> None:
    for number in range(12):
        pods.run(f"!many-{number:02}", "app")
    with pytest.raises(ApiError, match=r"default/!many-00 \(app\).* more") as caught:
        await platform.locate({"pod": "nobody"})
    assert (caught.value.code, caught.value.reason) == (404, Reason.CONTAINER_NOT_FOUND)


@pytest.mark.parametrize(
    ("attachment", "code", "reason"),
    [
        ({}, 404, Reason.CONTAINER_NOT_FOUND),
        ({"pod": None}, 404, Reason.CONTAINER_NOT_FOUND),
        ({"pod": 5}, 422, Reason.INVALID),
        ({"pod": "p", "container": ["c"]}, 422, Reason.INVALID),
    ],
)
async def test_unfit_values(platform: LocalPlatform, attachment: dict[str, object], code: int, reason: Reason) -> None:
    with pytest.raises(ApiError) as caught:
        await platform.locate(attachment)
    assert (caught.value.code, caught.value.reason) == (code, reason)


async def test_what_was_found_is_not_looked_for_again_until_it_ends(
    platform: LocalPlatform, pods: Pods, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = counted(monkeypatch)
    process = pods.run(name, "app")
    for _ in range(5):
        await platform.locate({"pod": name, "container": "app"})
    assert len(scans) == 1
    process.kill()
    process.wait()
    with pytest.raises(ApiError):
        await platform.locate({"pod": name, "container": "app"})
    pods.run(name, "app:2", container="app")
    assert (await platform.locate({"pod": name, "container": "app"})).image == "app:2"
    assert len(scans) == 3


async def test_choice_is_made_anew_after_a_moment(
    platform: LocalPlatform, pods: Pods, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pods.run(name, "a")
    await platform.locate({"pod": name})
    pods.run(name, "b")
    monkeypatch.setattr(local, "FRESH", 0.0)
    with pytest.raises(ApiError, match="a, b"):
        await platform.locate({"pod": name})


async def test_many_at_once_share_scans(
    platform: LocalPlatform, pods: Pods, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = counted(monkeypatch)
    pods.run(name, "app")
    found = await asyncio.gather(*(platform.locate({"pod": name, "container": "app"}) for _ in range(50)))
    assert len(found) == 50
    assert len(scans) <= 2


async def test_named_image_must_be_the_containers(platform: LocalPlatform, pods: Pods, name: str) -> None:
    pods.run(name, "app:1")
    spec = AttachmentSpec(attachment={"pod": name}, image="app:1", node="claimed")
    completed = await platforms.located(platform, spec)
    assert (completed.image, completed.node, completed.attachment["container"]) == ("app:1", "here", "app")
    with pytest.raises(ApiError, match=r"'app:2'.*'app:1'") as caught:
        await platforms.located(platform, AttachmentSpec(attachment={"pod": name}, image="app:2"))
    assert (caught.value.code, caught.value.reason) == (400, Reason.IMAGE_MISMATCH)


def test_platforms_are_found_by_their_entry_points() -> None:
    assert isinstance(platforms.load(CoordinatorSettings()), LocalPlatform)
    with pytest.raises(SettingError, match=r"platform = 'mars'.*local"):
        platforms.load(CoordinatorSettings(platform="mars"))

"""The platform `local`: which processes count as containers."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from squash import local
from squash.local import LocalProcess
from tests.squash.processes import Processes


def found(pod: str) -> list[LocalProcess]:
    return [process for process in local.scan() if process.pod == pod]


def test_pod_and_image_make_a_container(processes: Processes) -> None:
    pod = uuid4().hex
    process = processes.run({"SQUASH_POD": pod, "SQUASH_IMAGE": "demo/pricing:1"})
    [seen] = found(pod)
    assert (seen.pid, seen.namespace, seen.container, seen.image) == (
        process.pid,
        "default",
        "pricing",
        "demo/pricing:1",
    )
    assert seen.alive
    process.kill()
    process.wait()
    # It has changed behind the type checker's back.
    assert not LocalProcess(*seen).alive
    assert found(pod) == []
    assert local.read(process.pid) is None


def test_all_four_names(processes: Processes) -> None:
    pod = uuid4().hex
    processes.run({"SQUASH_POD": pod, "SQUASH_IMAGE": "i", "SQUASH_NAMESPACE": "shop", "SQUASH_CONTAINER": "app"})
    [seen] = found(pod)
    assert (seen.namespace, seen.container, seen.image) == ("shop", "app", "i")


@pytest.mark.parametrize(
    ("image", "container"),
    [
        ("pricing", "pricing"),
        ("registry:5000/demo/pricing:1.2", "pricing"),
        ("demo/pricing@sha256:abc", "pricing"),
        ("demo/pricing:1@sha256:abc", "pricing"),
    ],
)
def test_the_container_is_named_after_the_image(processes: Processes, image: str, container: str) -> None:
    pod = uuid4().hex
    processes.run({"SQUASH_POD": pod, "SQUASH_IMAGE": image})
    assert found(pod)[0].container == container


def test_half_a_container_is_none(processes: Processes) -> None:
    pod = uuid4().hex
    processes.run({"SQUASH_POD": pod})
    processes.run({"SQUASH_POD": pod, "SQUASH_IMAGE": ""})
    processes.run({"SQUASH_POD": "", "SQUASH_IMAGE": pod})
    assert found(pod) == []
    assert not [process for process in local.scan() if process.image == pod]


def test_children_belong_to_it_the_oldest_comes_first(processes: Processes) -> None:
    pod = uuid4().hex
    # The child says that both are there, and ends with its input, which is its parent's.
    script = "sh -c 'echo ready; read line' & wait"
    parent = processes.run({"SQUASH_POD": pod, "SQUASH_IMAGE": "i"}, f"exec 3<&0; {script.replace('&', '<&3 &')}")
    first, second = found(pod)
    assert first.pid == parent.pid
    assert second.pid == int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text())


@pytest.mark.parametrize("bad", ["x" * 1_025, "\udcff", "a\nb"], ids=["too long", "not UTF-8", "not printable"])
@pytest.mark.parametrize("key", ["SQUASH_POD", "SQUASH_IMAGE", "SQUASH_NAMESPACE", "SQUASH_CONTAINER"])
def test_what_the_api_cannot_carry_is_passed_over(processes: Processes, key: str, bad: str) -> None:
    process = processes.run({"SQUASH_POD": uuid4().hex, "SQUASH_IMAGE": "i"} | {key: bad})
    assert local.read(process.pid) is None


async def test_who_asks_at_once_shares_a_scan_that_began_after_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    scans: list[int] = []

    def counting() -> Iterator[LocalProcess]:
        scans.append(len(scans))
        yield LocalProcess(len(scans), 1, "pod", "default", "app", "app:1")

    monkeypatch.setattr(local, "scan", counting)
    scanner = local.Scanner()
    asked = await asyncio.gather(*(scanner.scan() for _ in range(50)))
    assert len(scans) <= 2
    assert {process.pid for [process] in asked} <= {1, 2}
    [later] = await scanner.scan()
    assert later.pid == len(scans)

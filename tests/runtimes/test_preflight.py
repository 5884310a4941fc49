"""The preflight on processes of real containers."""

import json
import subprocess
from uuid import uuid4

import pytest

from agent.containers.cri import CriContainers
from agent.debuggers.debugpy import Debugpy
from agent.preflight import gather
from agent.preflight.facts import Seccomp
from agent.preflight.finding import refusal
from agent.preflight.needs import MEGABYTE
from agent.preflight.run import examine
from agent.process import Process
from demo.world import BIN
from squash.reasons import Reason
from squash.settings import AgentSettings
from tests.runtimes.conftest import PYTHON
from tests.runtimes.containerd import Containerd
from tests.runtimes.kubelet import Limits


async def started(runtime: Containerd, limits: Limits) -> Process:
    """The first process of a new container of the Python image."""
    namespace = f"ns-{uuid4().hex[:8]}"
    runtime.kubelet.pod("app", namespace).run("app", PYTHON, limits=limits)
    containers = CriContainers(AgentSettings(runtime_socket=runtime.socket))
    found = await containers.processes({"pod": "app", "namespace": namespace, "container": "app"})
    await containers.close()
    return found[0]


async def test_a_hardened_container(runtime: Containerd) -> None:
    process = await started(runtime, Limits(uid=1000, hardened=True, memory=64 * MEGABYTE))
    target = gather.target(process)
    assert target.seccomp in (Seccomp.NONE, Seccomp.FILTER)
    assert (target.other_files, target.other_network, target.other_users) == (True, True, False)
    assert target.memory
    assert target.memory.limit == 64 * MEGABYTE
    assert 0 < target.memory.free < 64 * MEGABYTE
    assert [(home.path, home.obstacle) for home in target.homes] == [("/dev", "")]
    assert target.libc.name == "glibc"
    assert refusal(examine(Debugpy(), process)) is None


async def test_a_container_that_is_too_small(runtime: Containerd) -> None:
    process = await started(runtime, Limits(memory=14 * MEGABYTE))
    refused = refusal(examine(Debugpy(), process))
    assert refused
    assert refused.reason is Reason.MEMORY_SHORT
    assert "of the container's 14 MiB are free" in refused.message


@pytest.mark.parametrize("dropped", ["kill", "chown"])
async def test_the_doctor_of_an_agent_that_lacks_something(runtime: Containerd, dropped: str) -> None:
    process = await started(runtime, Limits(uid=1000))
    lacking = ["setpriv", "--inh-caps=-all", "--bounding-set", f"-{dropped}"]
    argv = [*lacking, str(BIN / "squash-agent"), "doctor", "--json", "--pid", str(process.pid)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1, done.stderr
    findings = json.loads(done.stdout)["process"]["findings"]
    (refused,) = [each for each in findings if each["level"] == "refused"]
    assert refused["reason"] == Reason.CAPABILITY_MISSING
    assert f"CAP_{dropped.upper()}" in refused["message"]

"""The images and docker-compose.yml on a real Docker engine: who runs as what, what they may do, the whole story."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo import scenes
from demo.caller import Request, get
from demo.compose.engine import BASE_IMAGE
from demo.compose.shop import Shop
from demo.compose.story import ComposeStory
from demo.telling import line_of, until
from demo.world import ROOT
from squash import __version__, procfs
from tests.runtimes.engine import Engine

pytestmark = pytest.mark.timeout(3600)  # of which most is the making of images
OWN = ("coordinator", "sidecar", "agent", "envoy")
MOST = {"coordinator": 110, "sidecar": 130, "agent": 270, "envoy": 115}
"""Megabytes that an image may have on top of its base."""
CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SYS_CHROOT": 18, "SYS_PTRACE": 19, "SYS_ADMIN": 21}
"""What the agent is to have, by their numbers (capabilities(7))."""
BUILDERS = ("pip", "pip3", "gcc", "g++", "cc", "make", "go", "javac", "npm", "git", "curl", "wget")
PROJECT = "com.docker.compose.project"


def containers(engine: Engine, project: str) -> dict[str, Any]:
    """The project's containers by service."""
    found = engine.client.containers.list(all=True, filters={"label": f"{PROJECT}={project}"})
    return {one.labels["com.docker.compose.service"]: one for one in found}


def status_of(pid: int) -> dict[str, str]:
    return dict(procfs.status(pid) or {})


@pytest.mark.parametrize("name", OWN)
def test_an_image_says_what_it_is(shop: Shop, docker_engine: Engine, name: str) -> None:
    config = docker_engine.client.images.get(f"squash/{name}").attrs["Config"]
    assert config["User"] == ("0:0" if name == "agent" else "10001:10001")
    assert config["Healthcheck"]["Test"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.title"].startswith("Squash: ")
    assert labels["org.opencontainers.image.version"] == __version__
    assert not any("TOKEN" in variable.partition("=")[0] for variable in config["Env"])


@pytest.mark.parametrize("name", OWN)
def test_an_image_is_small_and_builds_nothing(shop: Shop, docker_engine: Engine, name: str) -> None:
    images = docker_engine.client.images
    own = (images.get(f"squash/{name}").attrs["Size"] - images.get(BASE_IMAGE).attrs["Size"]) // 1_000_000
    assert own <= MOST[name]
    types = ["-c", f"type -P {' '.join(BUILDERS)}; true"]
    looking = docker_engine.client.containers.create(f"squash/{name}", types, entrypoint="bash")
    try:
        looking.start()
        assert looking.wait()["StatusCode"] == 0
        assert looking.logs() == b""
    finally:
        looking.remove(force=True, v=True)


@pytest.mark.parametrize("scene", ["stock", "shipping"])
def test_a_static_program_is_all_that_there_is(shop: Shop, docker_engine: Engine, scene: str) -> None:
    container = docker_engine.client.containers.get(shop.container(scene))
    _, info = container.get_archive(f"/{scene}")
    assert info
    assert info["size"] > 0
    assert docker_engine.client.images.get(f"demo/{scene}").attrs["Size"] < 12_000_000


def test_the_coordinator_wants_tokens_by_itself(
    told: dict[str, str], shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image as it is, without Compose."""
    monkeypatch.setenv("DOCKER_HOST", told["DOCKER_HOST"])
    monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
    from testcontainers.core.container import DockerContainer
    from testcontainers.core.wait_strategies import HealthcheckWaitStrategy

    made = DockerContainer("squash/coordinator").with_exposed_ports(8602).waiting_for(HealthcheckWaitStrategy())
    with made as coordinator:
        asked = ["bash", "-c", "SQUASH_SERVER_URL=http://127.0.0.1:8602 squashctl list requests"]
        status, said = coordinator.exec(asked)
        assert status == 6, said
        assert b"token" in said
        file = "/var/lib/squash/coordinator.admin-token"
        assert coordinator.exec(["sh", "-c", f'[ "$(stat -c "%a %u" {file})" = "600 10001" ]'])[0] == 0


def test_what_is_printed_reads_the_token_and_does_not_show_it(shop: Shop) -> None:
    token = shop.token()
    command = shop.token_command()
    assert token
    assert token not in command
    own = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER", "SQUASH"))}
    read = subprocess.run(["sh", "-c", f"echo $({command})"], env=own, capture_output=True, text=True, check=True)
    assert read.stdout == f"{token}\n"


def test_all_but_agent_and_provision_have_no_capability(shop: Shop, docker_engine: Engine) -> None:
    for service, container in containers(docker_engine, shop.project).items():
        host = container.attrs["HostConfig"]
        assert not host["Privileged"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        if service == "provision":
            assert container.attrs["State"]["ExitCode"] == 0
            continue
        found = status_of(container.attrs["State"]["Pid"])
        assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "1"), service
        wanted = sum(1 << number for number in CAPABILITIES.values()) if service == "agent" else 0
        assert int(found["CapBnd"], 16) == wanted, service
        assert int(found["CapEff"], 16) in (0, wanted), service
        assert host["ReadonlyRootfs"] == (service != "agent")


def test_what_goes_through_to_the_engine(shop: Shop, docker_engine: Engine) -> None:
    """The coordinator looks containers up, and can do nothing to them."""
    container = containers(docker_engine, shop.project)["coordinator"]
    script = (
        "import docker, json; api = docker.from_env().api; found = {}\n"
        "mine = api.containers()[0]['Id']; found['known'] = bool(api.inspect_container(mine)['State']['Pid'])\n"
        "for name, ask in {'stop': lambda: api.stop(mine), 'exec': lambda: api.exec_create(mine, 'id'),\n"
        "    'make': lambda: api.create_container('squash/agent'), 'files': lambda: api.get_archive(mine, '/'),\n"
        "    'around': lambda: api._get(api._url('/containers/x/json/..%2f../archive?path=/'))}.items():\n"
        "    try: answer = ask(); found[name] = getattr(answer, 'status_code', 200)\n"
        "    except docker.errors.APIError as error: found[name] = error.status_code\n"
        "print(json.dumps(found))"
    )
    status, said = container.exec_run(["python3", "-c", script], environment={"PATH": "/opt/squash/bin:/bin"})
    assert status == 0, said
    found = json.loads(said)
    assert found.pop("known")
    assert {name: code for name, code in found.items() if code not in (400, 403, 404)} == {}


def test_a_role_sees_its_own_token_alone(shop: Shop, docker_engine: Engine) -> None:
    made = containers(docker_engine, shop.project)
    tokens = {}
    for service in ("agent", "pricing-sidecar"):
        status, said = made[service].exec_run(["cat", "/run/secrets/squash/token"])
        assert status == 0, said
        tokens[service] = said.strip().decode()
    tokens["developer"] = shop.token()
    assert len(set(tokens.values())) == 3
    asked = ["squashctl", "token", "list", "--server", "http://coordinator:8602"]
    environment = {"SQUASH_TOKEN": tokens["pricing-sidecar"], "SQUASH_INSECURE": "true"}
    status, said = made["pricing-sidecar"].exec_run(asked, environment=environment)
    assert status == 6, said


def test_the_story(story: ComposeStory) -> None:
    assert story.tell(), [step for step in story.teller.steps if step.error]


def test_a_killed_agent_leaves_no_trap_behind(story: ComposeStory, shop: Shop, docker_engine: Engine) -> None:
    """Where the end of a container's first process is the end of all in it."""
    agent = containers(docker_engine, shop.project)["agent"]
    wish = story.ctl("debug-request", "demo/stock")
    held = Request(story.url(scenes.STOCK), marked=True)
    attachment = story.listening(wish)
    pid = attachment["status"]["pid"]
    with story.reach(attachment) as address, stopped_by_gdb(address, shop.directory):
        assert status_of(pid)["TracerPid"] != "0"
        for victim, _ in processes(agent, "squash-agent"):
            os.kill(victim, signal.SIGKILL)
        began = time.monotonic()
        assert held.answer().body["items"]["plum"]["available"] == -2
        story.is_free(pid)
        assert time.monotonic() - began < 10
    for _ in range(3):
        assert get(story.url(scenes.STOCK)).body["items"]["plum"]["available"] == -2
    agent.reload()
    assert agent.attrs["RestartCount"] == 0
    assert until(lambda: processes(agent, "squash-agent"), bool, limit=30)
    story.debug(scenes.STOCK)


def processes(container: Any, name: str) -> list[tuple[int, str]]:
    """Pid, as the machine counts, and command line of the container's processes of this name."""
    rows = container.top(ps_args="-eo pid,args")["Processes"]
    found = [(int(pid), line) for pid, line in rows]
    return [(pid, line) for pid, line in found if name in line and "run-agent" not in line and "guard" not in line]


@contextlib.contextmanager
def stopped_by_gdb(address: str, directory: Path) -> Iterator[None]:
    """A request stands at a breakpoint in stock, and gdb waits for what it is told."""
    line = line_of(scenes.STOCK.source, scenes.STOCK.line)
    commands = [f"target remote {address}", f"break stock.cpp:{line}", "continue"]
    argv = ["gdb", "-nx", "-q", *(word for command in commands for word in ("-ex", command))]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, cwd=directory, text=True) as gdb:
        assert gdb.stdout
        try:
            said = ""
            while "Breakpoint 1, available" not in said:
                line_read = gdb.stdout.readline()
                assert line_read, said
                said += line_read
            yield
        finally:
            gdb.kill()


def test_interrupted_it_leaves_nothing(told: dict[str, str], shop: Shop, docker_engine: Engine, tmp_path: Path) -> None:
    before = {one.id for one in docker_engine.client.containers.list(all=True)}
    with subprocess.Popen(
        [sys.executable, "-m", "demo.compose"],
        cwd=ROOT, env={**told, "TMPDIR": str(tmp_path), "ENGINE": ""}, stdout=subprocess.PIPE, text=True,
    ) as telling:  # fmt: skip
        assert telling.stdout
        said = ""
        while "Python: a marked request" not in said:
            line = telling.stdout.readline()
            assert line, said
            said += line
        telling.send_signal(signal.SIGINT)
        telling.stdout.read()
        assert telling.wait(300) == 130
    assert {one.id for one in docker_engine.client.containers.list(all=True)} == before
    volumes = docker_engine.client.volumes.list(filters={"label": PROJECT})
    assert {one.attrs["Labels"][PROJECT] for one in volumes} == {shop.project}
    networks = docker_engine.client.networks.list(filters={"label": PROJECT})
    assert {one.attrs["Labels"][PROJECT] for one in networks} == {shop.project}
    assert not list(tmp_path.iterdir())

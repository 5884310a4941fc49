"""A marked request from its caller to a breakpoint in a JVM and back, with jdb through the tunnel."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.shop import Pod
from squash.calls import list_audit
from squash.cli.editors import Place, configurations
from squash.model import Action, Phase, State
from squash.options import Address
from squash.tasks import spawn
from tests.agent.java import TOTAL, build
from tests.agent.test_jdwp import SLEEPS
from tests.e2e.street import Caller, Street, no_holds, result
from tests.eventually import eventually
from tests.squash.ctl import Ctl


@pytest.fixture
def prices(street: Street, tmp_path: Path) -> Pod:
    java, world = shutil.which("java"), street.world
    assert java
    argv = [java, SLEEPS, "-XX:TieredStopAtLevel=1", "-cp", str(build(tmp_path)), "Prices"]
    service = world.service("prices", "demo/prices", argv)
    sidecar = world.sidecar("prices")
    return Pod("prices", "demo/prices", service, sidecar, world.envoy("prices", service.where, sidecar.where))


class Jdb:
    """jdb, told one command after another."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def until(self, pattern: str) -> str:
        """Everything that it prints until the pattern is there."""
        assert self.process.stdout
        said = ""
        while not re.search(pattern, said):
            letter = self.process.stdout.read(1)
            assert letter, f"jdb ended: {said}"
            said += letter
        return said

    def tell(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()


@contextmanager
def jdb(connect: str) -> Iterator[Jdb]:
    """`connect`: the command line that squashctl shows."""
    pipe = subprocess.PIPE
    argv = connect.split()
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, bufsize=1) as process:
        try:
            yield Jdb(process)
        finally:
            process.kill()


@contextmanager
def connected(ctl: Ctl, name: str) -> Iterator[str]:
    """What squashctl tells users of jdb to run, while `squashctl connect` serves."""
    running = ctl.start("connect", name, "--json")
    try:
        port = re.search(r'"port": ?(\d+)', running.line())
        assert port
        [(_, command)] = configurations(Place(Address("127.0.0.1", int(port[1])), "jdwp", "jdwp"), ["jdb"]).values()
        yield command
    finally:
        running.kill()


async def test_jdb_debugs_a_held_request(street: Street, prices: Pod, caller: Caller, tmp_path: Path) -> None:
    street.world.agent()
    wish = street.wish(prices)
    call = spawn(caller.get(f"{prices.url}/price?3"), "call")
    attached = await street.listening(wish)
    assert (attached.status.debugger, attached.status.protocol) == ("jdwp", "jdwp")
    with connected(Ctl(tmp_path, street.coordinator.where), attached.name) as command, jdb(command) as client:
        client.until(r"Initializing jdb")
        assert not call.done()
        client.tell(f"stop at Prices:{TOTAL}")
        client.until(r"Set breakpoint Prices")
        client.until(rf"Breakpoint hit: .*Prices\.price\(\), line={TOTAL}")
        client.tell("locals")
        assert "total = 21" in client.until(r"total = \d+\n")
        client.tell("set total = 42")
        client.until(r"total = 42 = 42")
        client.tell("cont")
        answer = await call
        assert (answer.text, result(answer).outcome) == ("42", "attached")
        client.tell("exit")
        client.process.wait(20)
    ready = await street.until(attached.name, lambda found: found.status.phase is Phase.READY)
    assert ready.status.state is State.ATTACHED
    assert (await caller.get(f"{prices.url}/price?3", marked=False)).text == "21"
    noted = {Action.BREAKPOINTS, Action.CHANGED, Action.RESUMED, Action.CLIENT_LEFT}
    eventually(lambda: {entry.action for entry in street.client.send(list_audit())}, lambda done: noted <= done)
    no_holds(prices)

"""A marked request from its caller to a breakpoint in a JVM and back, with jdb through the tunnel."""

import os
import re
import select
import shutil
import subprocess
import time
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
from tests.agent.java import JDWP, TOTAL, build
from tests.e2e.street import Caller, Street, no_holds, result
from tests.eventually import eventually
from tests.squash.ctl import Ctl

PATIENCE = 45.0


@pytest.fixture
def prices(street: Street, tmp_path: Path) -> Pod:
    java, world = shutil.which("java"), street.world
    assert java
    argv = [java, JDWP, "-XX:TieredStopAtLevel=1", "-cp", str(build(tmp_path)), "Prices"]
    service = world.service("prices", "demo/prices", argv)
    timeout = ("--attachment-timeout", "100")
    sidecar = world.sidecar("prices", *timeout)
    envoy = world.envoy("prices", service.where, sidecar.where, *timeout)
    return Pod("prices", "demo/prices", service, sidecar, envoy)


class Jdb:
    """jdb, told one command after another."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self._said = ""

    def until(self, pattern: str) -> str:
        """Everything that it has printed until the pattern is there, and not been asked for."""
        assert self.process.stdout
        descriptor, deadline = self.process.stdout.fileno(), time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self._said)):
            ready = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]
            data = os.read(descriptor, 65_536) if ready else b""
            assert data, f"{pattern} never came: {self._said!r}"
            self._said += data.decode()
        said, self._said = self._said[: found.end()], self._said[found.end() :]
        return said

    def tell(self, command: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n".encode())
        self.process.stdin.flush()


@contextmanager
def jdb(connect: str) -> Iterator[Jdb]:
    """`connect`: the command line that squashctl shows."""
    pipe = subprocess.PIPE
    argv = connect.split()
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
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

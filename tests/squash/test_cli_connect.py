"""squashctl connect with everything real behind it: coordinator, agent, processes, gdb and a DAP client."""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from demo.dap import Dap
from demo.world import ROOT, World
from squash import procfs
from squash.calls import create_attachment, create_request, delete_attachment, get_attachment
from squash.model import AttachmentSpec, DebugAttachment, DebugRequest, HoldUntil, Phase, RequestSpec, State
from squash.reasons import Reason
from tests.drivers.dap import until_closed
from tests.squash.ctl import SQUASHCTL, Ctl, Running

SERVICE = """
import time
def tick(n):
    return n + 1
print("app ready on nothing", flush=True)
n = 0
while True:
    n = tick(n)
    time.sleep(0.01)
"""
STOCK = ROOT / "build/stock"


class Shop:
    """A world with a Python service, and squashctl for it."""

    def __init__(self, world: World, home: Path) -> None:
        self.world = world
        # The platform sees every process of the machine, those of other tests too.
        self.pod = f"shop-{uuid4().hex}"
        self.coordinator = world.coordinator()
        self.ctl = Ctl(home, self.coordinator.where)
        self.client = world.client()
        self.started: list[Running] = []

    def attachment(self, **spec: Any) -> str:
        given = AttachmentSpec(attachment={"pod": self.pod, "namespace": self.world.namespace}, **spec)
        return self.client.send(create_attachment(DebugAttachment(spec=given))).name

    def service(self) -> int:
        return self.world.service(self.pod, f"demo/{self.pod}", [sys.executable, "-c", SERVICE]).pid

    def start(self, *argv: str) -> Running:
        running = self.ctl.start("connect", *argv)
        self.started.append(running)
        return running

    def connect(self, *argv: str) -> tuple[Running, int]:
        """A `squashctl connect` that listens, and its port."""
        running = self.start(*argv)
        line = running.line()
        found = re.fullmatch(r"listening on +127\.0\.0\.1:(\d+) \(\w+\)\n", line)
        assert found, f"{line!r} {running.end()}"
        return running, int(found[1])

    def until(self, name: str, phase: Phase) -> DebugAttachment:
        for _ in range(2_000):
            found = self.client.send(get_attachment(name))
            if found.status.phase is phase:
                return found
            time.sleep(0.01)
        raise AssertionError(found)

    def close(self) -> None:
        for running in self.started:
            running.kill()
        self.client.close()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with World("sq") as world:
        made = Shop(world, tmp_path)
        try:
            yield made
        finally:
            made.close()


def listeners() -> set[str]:
    """The TCP ports that the processes of this test listen on, and theirs; other tests run beside it."""
    ours, inodes = {os.getpid()}, set()
    for pid in procfs.pids():
        stat = procfs.stat(pid)
        if stat and stat.ppid in ours:
            ours.add(pid)
            with contextlib.suppress(OSError):
                inodes |= {os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                found.add(fields[1])
    return found


def test_a_dap_client_debugs_through_the_tunnel(shop: Shop) -> None:
    shop.world.agent()
    pid = shop.service()
    name = shop.attachment(hold_until=HoldUntil.READY)
    running, port = shop.connect(name[:8])
    paste = running.line()
    assert json.loads(paste.removeprefix("paste").strip()) == {
        "name": "squash",
        "type": "debugpy",
        "request": "attach",
        "justMyCode": False,
        "connect": {"host": "127.0.0.1", "port": port},
    }
    with Dap(f"127.0.0.1:{port}") as dap:
        dap.attach({"<string>": []})
        attached = shop.client.send(get_attachment(name, wait=20))
        assert (attached.status.state, attached.status.phase) == (State.ATTACHED, Phase.READY)
        thread = dap.ask("threads")["threads"][0]["id"]
        dap.ask("pause", threadId=thread)
        dap.event("stopped")
        frames = dap.ask("stackTrace", threadId=thread)["stackFrames"]
        assert {"tick", "<module>"} & {frame["name"] for frame in frames}
    assert "client left" in running.until("client left")
    running.send(signal.SIGINT)
    status, out, err = running.end()
    assert (status, out) == (130, "")
    assert f"{name} stays" in err
    assert procfs.stat(pid)


@pytest.mark.parametrize("way", ["port", "stdio"])
def test_gdb_debugs_through_the_tunnel(shop: Shop, way: str) -> None:
    shop.world.agent()
    pid = shop.world.service(shop.pod, "demo/stock", [str(STOCK), "--listen", "127.0.0.1:0"]).pid
    name = shop.attachment(debugger="gdb")
    if way == "port":
        running, port = shop.connect(name)
        told = f"gdb -ex 'set sysroot /' -ex 'file {STOCK}' -ex 'target remote 127.0.0.1:{port}'"
        assert running.line() == f"paste             {told}\n"
        remote = f"target remote 127.0.0.1:{port}"
    else:
        assert shop.ctl("wait", name, "--for", "listening").returncode == 0
        remote = f"target remote | {SQUASHCTL} connect {name} --stdio"
    script = ["set sysroot /", remote, "info inferiors", "p 6*7", "info threads", "detach"]
    argv = ["gdb", "-q", "-nx", "-batch", str(STOCK)]
    for line in script:
        argv += ["-ex", line]
    done = subprocess.run(argv, env=shop.ctl.env, capture_output=True, text=True, timeout=60, check=False)
    assert "$1 = 42" in done.stdout, done
    assert "Remote target" in done.stdout or f"process {pid}" in done.stdout
    assert "detached]" in done.stdout, done
    stat, status = procfs.stat(pid), procfs.status(pid)
    assert stat
    assert status
    assert stat.state in "SR"


def test_it_waits_for_the_debug_server(shop: Shop) -> None:
    shop.service()
    name = shop.attachment()
    running = shop.start(name)
    running.until("located")
    shop.world.agent()
    running.until("listening")
    assert running.line().startswith("listening on")


def test_it_takes_a_debug_request(shop: Shop) -> None:
    shop.world.agent()
    shop.service()
    wish = shop.client.send(create_request(DebugRequest(spec=RequestSpec(image=f"demo/{shop.pod}", debugger=""))))
    running = shop.start(wish.name[:6], "--json")
    name = shop.attachment(match_request=True)
    document = json.loads(running.line())
    port = document["listen"]["port"]
    assert document == {
        "attachment": name,
        "listen": {"host": "127.0.0.1", "port": port},
        "protocol": "dap",
        "debugger": "debugpy",
        "paste": document["paste"],
    }
    with Dap(f"127.0.0.1:{port}") as dap:
        assert dap.ask("initialize", adapterID="x")["supportsConfigurationDoneRequest"]


def test_one_client_at_a_time_and_one_after_another(shop: Shop) -> None:
    shop.world.agent()
    shop.service()
    running, port = shop.connect(shop.attachment())
    with Dap(f"127.0.0.1:{port}") as first:
        first.ask("initialize", adapterID="x")
        with socket.create_connection(("127.0.0.1", port)) as second, contextlib.suppress(ConnectionError):
            assert second.recv(1) == b""
        running.until("client refused: one at a time")
        first.attach({})
    running.until("client left")
    with Dap(f"127.0.0.1:{port}") as third:
        third.attach({})


def test_once_closes_the_port_when_a_client_comes_and_ends_with_it(shop: Shop) -> None:
    shop.world.agent()
    shop.service()
    running, port = shop.connect(shop.attachment(), "--once")
    with Dap(f"127.0.0.1:{port}") as dap:
        dap.attach({})
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    assert running.end()[0] == 0


def test_once_ends_well_when_the_client_leaves_without_reading_all(shop: Shop) -> None:
    shop.world.agent()
    shop.service()
    running, port = shop.connect(shop.attachment(), "--once")
    with socket.create_connection(("127.0.0.1", port)) as client:
        words = b'{"seq":1,"type":"request","command":"initialize","arguments":{"adapterID":"x"}}'
        client.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(words), words))
        assert client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert running.end()[0] == 0


def test_the_end_of_the_attachment_ends_it(shop: Shop) -> None:
    shop.world.agent()
    shop.service()
    name = shop.attachment()
    running, port = shop.connect(name)
    with Dap(f"127.0.0.1:{port}") as dap:
        dap.attach({})
        shop.client.send(delete_attachment(name))
        until_closed(dap)
    status, _, err = running.end()
    assert status == 0
    assert "over: " in err
    nobody, _ = shop.connect(name := shop.attachment())
    shop.client.send(delete_attachment(name))
    status, _, err = nobody.end()
    assert status == 1
    assert "was deleted" in err


@pytest.mark.parametrize("who", ["agent", "process", "coordinator"])
def test_whatever_is_killed_the_client_learns_of_it(shop: Shop, who: str) -> None:
    agent = shop.world.agent()
    pid = shop.service()
    running, port = shop.connect(shop.attachment())
    with Dap(f"127.0.0.1:{port}") as dap:
        dap.attach({})
        os.kill({"agent": agent.pid, "process": pid, "coordinator": shop.coordinator.pid}[who], signal.SIGKILL)
        until_closed(dap)
        if who == "process":
            assert running.end()[0] == 0
        else:
            assert "broke off" in running.until("broke off")


def test_its_own_death_is_a_client_that_left(shop: Shop) -> None:
    shop.world.agent("--client-grace", "0.2")
    pid = shop.service()
    name = shop.attachment()
    running, port = shop.connect(name)
    with Dap(f"127.0.0.1:{port}") as dap:
        dap.attach({})
        running.send(signal.SIGKILL)
        until_closed(dap)
    after = shop.until(name, Phase.DETACHED)
    assert (after.status.state, after.status.reason) == (State.ATTACHED, Reason.CLIENT_GONE)
    stat = procfs.stat(pid)
    assert stat
    assert stat.state in "SR"


def test_nothing_new_listens_but_its_own_port(shop: Shop) -> None:
    shop.world.agent()
    shop.service()
    before = listeners()
    name = shop.attachment()
    shop.client.send(get_attachment(name, wait=20))
    assert listeners() == before, "attached"
    running, port = shop.connect(name)
    with Dap(f"127.0.0.1:{port}") as dap:
        dap.attach({})
        assert listeners() - before == {f"0100007F:{port:04X}"}
    running.send(signal.SIGTERM)
    assert running.end()[0] == 143
    assert listeners() == before, "after"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_of_this_machine_is_refused(shop: Shop) -> None:
    shop.world.agent()
    shop.service()
    running, port = shop.connect(shop.attachment())
    for other in (f"s.connect(('127.0.0.1', {port}))", f"s.connect(('127.0.0.1', {port})); s.send(b'x')"):
        code = f"import socket; s = socket.socket(); {other}\ntry: print(s.recv(1))\nexcept OSError: print('reset')"
        said = subprocess.run(
            ["/usr/bin/env", "python3", "-c", code], user=65534, capture_output=True, text=True, check=True, timeout=30
        )
        assert said.stdout in ("b''\n", "reset\n")
        assert "it is of user 65534" in running.until("client refused")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--listen", "0.0.0.0:0"], "would let other machines control the process"),
        (["--listen", "[::]:0"], "--insecure-listen"),
        (["--listen", "example"], "expected HOST:PORT"),
        (["--stdio", "--once"], "takes none of"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_done(alone: Ctl, argv: list[str], says: str) -> None:
    done = alone("connect", "x", *argv)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_other_machines_are_let_in_only_when_told(shop: Shop) -> None:
    shop.world.agent()
    shop.service()
    running = shop.start(shop.attachment(), "--listen", "0.0.0.0:0", "--insecure-listen")
    assert running.line().startswith("listening on      0.0.0.0:")


def test_a_port_that_is_taken(shop: Shop) -> None:
    shop.world.agent()
    shop.service()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = shop.ctl.failure("connect", shop.attachment(), "--listen", f"127.0.0.1:{port}", status=2)
    assert f"port {port} of 127.0.0.1 is held by" in error["message"]


def test_unknown_and_over(shop: Shop) -> None:
    assert shop.ctl.failure("connect", "nothing", status=5)["reason"] == "not_found"
    shop.world.agent()
    failed = shop.attachment(debugger="perldb") if shop.service() else ""
    assert shop.ctl.failure("connect", failed, status=1)["reason"] == "unknown_debugger"


def test_an_agent_that_is_away(shop: Shop) -> None:
    agent = shop.world.agent()
    shop.service()
    name = shop.attachment()
    shop.client.send(get_attachment(name, wait=20))
    agent.kill()
    running, port = shop.connect(name)
    with socket.create_connection(("127.0.0.1", port)) as client, contextlib.suppress(ConnectionError):
        assert client.recv(1) == b""
    assert "(agent_away)" in running.until("agent_away")
    done = shop.ctl("connect", name, "--stdio")
    assert (done.returncode, done.stdout) == (1, "")
    assert "(agent_away)" in done.stderr


def test_stdio_ends_with_its_input(shop: Shop) -> None:
    shop.world.agent()
    shop.service()
    done = shop.ctl("connect", shop.attachment(), "--stdio")
    assert (done.returncode, done.stdout) == (0, "")

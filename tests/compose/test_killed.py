"""Whoever has a Docker engine of his own and is killed, with containers up, leaves nothing of it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from demo.compose.engine import BASE_IMAGE
from demo.world import ROOT
from squash import procfs
from tests.eventually import eventually
from tests.runtimes.engine import Engine, short_directory

USER = """
import subprocess, sys
from pathlib import Path
from demo import engine
from demo.janitor import MARK
from demo.compose.engine import load_base
with engine.running(Path(sys.argv[1])) as host:
    load_base(host)
    client = subprocess.Popen(["sleep", "1000"], env={MARK: sys.argv[1]}, start_new_session=True)
    print(host, client.pid, flush=True)
    sys.stdin.read()
"""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="dockerd takes root")


def processes(base: Path) -> list[str]:
    """Command lines of what an engine has started on this machine, but not in its containers."""
    found = []
    for pid in procfs.pids():
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return [line for line in found if str(base) in line]


def links() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def mounts(base: Path) -> list[str]:
    return [line for line in Path("/proc/mounts").read_text().splitlines() if f"{base}/" in line]


def test_an_engine_whose_user_is_killed_is_gone() -> None:
    base = short_directory()
    argv = [sys.executable, "-c", USER, str(base)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as user:
        assert user.stdout
        host, client = user.stdout.readline().split()
        found = Engine(base, host)
        street = found.client.networks.create("street", driver="bridge")
        # As its first process, sleep ignores SIGTERM: the engine would wait for it.
        container = found.client.containers.run(BASE_IMAGE, ["sleep", "1000"], detach=True, network="street")
        container.reload()
        inside = int(container.attrs["State"]["Pid"])
        found.client.close()
        [bridge] = {word.split()[0] for line in processes(base) for word in line.split("--bridge ")[1:]}
        bridges = {bridge, f"br-{str(street.id)[:12]}"}
        assert bridges <= links()
        assert mounts(base)
        os.kill(user.pid, signal.SIGKILL)
    assert not eventually(base.exists, lambda there: not there, 60)
    assert eventually(lambda: processes(base), lambda found: not found) == []
    assert mounts(base) == []
    assert not bridges & links()
    assert procfs.stat(inside) is None
    assert procfs.stat(int(client)) is None

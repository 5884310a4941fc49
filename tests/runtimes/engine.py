"""A Docker engine of the tests' own: data, state, socket and pid file are all in one directory."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
import docker.errors

START = 60.0


class Engine:
    """An engine that runs, and its client."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.host = f"unix://{base}/docker.sock"
        self.client = docker.DockerClient(base_url=self.host, timeout=60, version="1.41")


@contextlib.contextmanager
def running(base: Path) -> Iterator[Engine]:
    """An engine below `base`, an empty directory with a short path; nothing of it is left afterwards."""
    bridge, subnet = f"sq{secrets.token_hex(4)}", f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
    command: list[str | Path] = [
        "dockerd",
        "-H",
        f"unix://{base}/docker.sock",
        "--data-root",
        base / "data",
        "--exec-root",
        base / "run",
    ]
    command += ["-p", base / "docker.pid", "--config-file", base / "none.json", "--bridge", bridge]
    command += ["--default-address-pool", f"base={subnet}.128/25,size=28", "--iptables=false", "--ip-masq=false"]
    _ip("link", "add", bridge, "type", "bridge")
    _ip("addr", "add", f"{subnet}.1/25", "dev", bridge)
    _ip("link", "set", bridge, "up")
    (base / "none.json").write_text("{}")
    log = (base / "log").open("wb")
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(base / "notify"))
    environment = {**os.environ, "NOTIFY_SOCKET": str(base / "notify")}
    daemon = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        _wait_until_ready(notices, base)
        engine = Engine(base)
        yield engine
        for container in engine.client.containers.list(all=True):
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True)
        engine.client.networks.prune()
        engine.client.close()
    finally:
        daemon.terminate()
        daemon.wait(START)
        notices.close()
        log.close()
        subprocess.run(["ip", "link", "delete", bridge], check=False, capture_output=True)
        _unmount(base)
        shutil.rmtree(base)


def _wait_until_ready(notices: socket.socket, base: Path) -> None:
    """The engine says so as to systemd (sd_notify(3))."""
    notices.settimeout(START)
    try:
        while b"READY=1" not in notices.recv(4096).splitlines():
            continue
    except TimeoutError as error:
        raise AssertionError(f"dockerd is not ready:\n{(base / 'log').read_text()[-2000:]}") from error


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _unmount(base: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if f" {base}/" in line]
    for mount in reversed(mounts):
        subprocess.run(["umount", mount], check=True)

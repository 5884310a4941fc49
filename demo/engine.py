"""A Docker engine of one's own: data, state, socket and pid file are all in one directory, off the usual places."""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

START = 60.0
"""Seconds for the engine to be ready, and to end."""


class EngineError(Exception):
    """The engine did not start, or could not be cleared away; the message tells why."""


@contextlib.contextmanager
def running(base: Path) -> Iterator[str]:
    """Where an engine below `base` answers, like unix:///…; nothing of it is left afterwards.

    `base` is an empty directory with a short path. Containers reach each other and the host, and nothing else. Takes
    root. Raises EngineError.
    """
    bridge, subnet = f"sq{secrets.token_hex(4)}", f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
    command: list[str | Path] = ["dockerd", "-H", f"unix://{base}/docker.sock", "--data-root", base / "data"]
    command += ["--exec-root", base / "run", "-p", base / "docker.pid", "--config-file", base / "none.json"]
    command += ["--bridge", bridge, "--default-address-pool", f"base={subnet}.128/25,size=28"]
    command += ["--iptables=false", "--ip-masq=false"]
    (base / "none.json").write_text("{}")
    notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notices.bind(str(base / "notify"))
    environment = {**os.environ, "NOTIFY_SOCKET": str(base / "notify")}
    with contextlib.ExitStack() as after:
        # Whatever of this fails, the rest is still done.
        after.callback(_clear, base)
        after.enter_context(contextlib.closing(notices))
        log = after.enter_context((base / "log").open("wb"))
        _ip("link", "add", bridge, "type", "bridge")
        after.callback(subprocess.run, ["ip", "link", "delete", bridge], check=False, capture_output=True)
        _ip("addr", "add", f"{subnet}.1/25", "dev", bridge)
        _ip("link", "set", bridge, "up")
        try:
            # A session of its own: Ctrl-C is for whoever uses it, and who then still needs it to clean up.
            daemon = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        except FileNotFoundError as error:
            raise _missing("dockerd") from error
        after.callback(_end, daemon)
        _wait_until_ready(notices, base)
        yield f"unix://{base}/docker.sock"


def _missing(program: str) -> EngineError:
    return EngineError(f"{program} is not on PATH; as root: scripts/setup tools {program}")


def _end(daemon: "subprocess.Popen[bytes]") -> None:
    daemon.terminate()
    try:
        daemon.wait(START)
    except subprocess.TimeoutExpired:
        # Its containerd has asked the kernel to die with it.
        daemon.kill()
        daemon.wait()


def _wait_until_ready(notices: socket.socket, base: Path) -> None:
    """The engine says so as to systemd (sd_notify(3))."""
    notices.settimeout(START)
    try:
        while b"READY=1" not in notices.recv(4096).splitlines():
            continue
    except TimeoutError as error:
        raise EngineError(f"dockerd is not ready:\n{(base / 'log').read_text()[-2000:]}") from error


def _ip(*arguments: str) -> None:
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise _missing("ip") from error
    except subprocess.CalledProcessError as error:
        raise EngineError(f"ip {' '.join(arguments)}: {error.stderr.strip()}") from error


def _clear(base: Path) -> None:
    """Raises EngineError when something stays mounted: what is in there may be somebody else's, and is left."""
    for mount in reversed(_mounts(base)):
        if subprocess.run(["umount", mount], check=False, capture_output=True).returncode:
            # Somebody still uses it. So it is out of sight at once, and goes when they have gone.
            subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    if left := _mounts(base):
        raise EngineError(f"still mounted, so {base} stays: {', '.join(left)}")
    shutil.rmtree(base)


def _mounts(base: Path) -> list[str]:
    return [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if f" {base}/" in line]

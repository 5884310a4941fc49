"""Keeps a Docker engine for somebody, and clears it away when they are gone, however they went (`demo.engine`).

`python -m demo.keeper BASE` says in one line of JSON where the engine answers, or why it does not. When its standard
input ends it ends the engine, with all containers and networks, and what bears BASE as its mark (`demo.janitor`); and
says what could not be cleared away, if anything.
"""

import contextlib
import http.client
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from demo.engine import EngineError
from demo.janitor import end, marked

START = 60.0
"""Seconds for the engine to be ready, and to end."""


@contextlib.contextmanager
def kept(base: Path) -> Iterator[str]:
    """Where an engine below `base` answers, like unix:///…; nothing of it is left afterwards. Raises EngineError."""
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
            daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        except FileNotFoundError as error:
            raise _missing("dockerd") from error
        after.callback(_end, daemon)
        after.callback(_empty, base / "docker.sock")
        _wait_until_ready(notices, daemon, base)
        yield f"unix://{base}/docker.sock"


class _Api:
    """The engine's, over its socket."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = http.client.HTTPConnection("engine", timeout=START)

    def __enter__(self) -> Self:
        self._connection.sock = socket.socket(socket.AF_UNIX)
        self._connection.sock.settimeout(START)
        try:
            self._connection.sock.connect(str(self._path))
        except OSError:
            self._connection.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str) -> Any:
        """Raises OSError, HTTPException, ValueError."""
        self._connection.request(method, f"/v1.41{path}")
        return json.loads(self._connection.getresponse().read() or b"null")


def _missing(program: str) -> EngineError:
    return EngineError(f"{program} is not on PATH; as root: scripts/setup tools {program}")


def _empty(path: Path) -> None:
    """Takes away what its user left: the engine itself would let bridges stay, and containers take their time."""
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError), _Api(path) as api:
        for container in api.ask("GET", "/containers/json?all=1"):
            api.ask("DELETE", f"/containers/{container['Id']}?force=1&v=1")
        api.ask("POST", "/networks/prune")


def _end(daemon: "subprocess.Popen[bytes]") -> None:
    daemon.terminate()
    try:
        daemon.wait(START)
    except subprocess.TimeoutExpired:
        # Its containerd has asked the kernel to die with it.
        daemon.kill()
        daemon.wait()


def _wait_until_ready(notices: socket.socket, daemon: "subprocess.Popen[bytes]", base: Path) -> None:
    """The engine says so as to systemd (sd_notify(3))."""
    deadline, ended = time.monotonic() + START, os.pidfd_open(daemon.pid)
    try:
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([notices.fileno(), ended], [], [], left)
            if notices.fileno() in ready and b"READY=1" in notices.recv(4096).splitlines():
                return
            if ended in ready:
                break
    finally:
        os.close(ended)
    raise EngineError(f"dockerd is not ready:\n{(base / 'log').read_text()[-2000:]}")


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


def _say(**fields: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(fields) + "\n")
        sys.stdout.flush()


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Not SIG_IGN, which the engine and all containers would inherit.
        signal.signal(number, lambda *_: None)
    try:
        with kept(Path(sys.argv[1])) as host:
            _say(host=host)
            sys.stdin.read()
            # Clients of what was killed.
            while left := marked(sys.argv[1:]):
                end(left)
    except EngineError as error:
        _say(error=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

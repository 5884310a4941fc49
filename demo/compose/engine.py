"""The Docker engine and the Compose that the demo runs on: the user's, or with ENGINE=own one of its own."""

import contextlib
import os
import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from demo import engine
from demo.janitor import MARK
from demo.world import ROOT, StartError

BASE = ROOT / "build" / "base"
"""A small Debian, as `scripts/setup base` makes it; the base of the images where no registry is to be had."""
BASE_IMAGE = "squash.demo/base"
COMPOSE = ROOT / "build" / "docker-compose"
"""As `scripts/setup compose` makes it where there is no other."""
_NEEDLESS = ("dev", "proc", "sys", "tmp", "var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man")
_TRUSTED = Path("/usr/local/share/ca-certificates")


def command() -> list[str]:
    """What Compose is called by: ours, or the user's. Raises StartError when there is no Compose v2."""
    if COMPOSE.exists():
        return [str(COMPOSE)]
    with contextlib.suppress(OSError):
        told = subprocess.run(
            ["docker", "compose", "version", "--short"], capture_output=True, text=True, check=False, timeout=30
        )
        if told.returncode == 0 and not told.stdout.startswith("1."):
            return ["docker", "compose"]
    raise StartError("Docker Compose, version 2 or newer, is missing: install it, or run `scripts/setup compose`")


@contextlib.contextmanager
def environment() -> Iterator[dict[str, str]]:
    """What Compose and the images need to know, in variables. Raises StartError, EngineError."""
    if os.environ.get("ENGINE", "") == "own":
        with _own() as host:
            # What bears the mark, and what lies beside the engine, goes with it also when we are killed.
            directory = str(Path(host.removeprefix("unix://")).parent)
            own = {"SQUASH_BASE": BASE_IMAGE, "SQUASH_BUILD_NETWORK": "host", "DOCKER_BUILDKIT": "0"}
            yield _told(host, {**own, MARK: directory, "TMPDIR": directory})
        return
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not host.startswith("unix://"):
        raise StartError(f"DOCKER_HOST = {host!r}: the agent has to be on the engine's machine; name a unix socket")
    yield _told(host, {})


def _told(host: str, more: Mapping[str, str]) -> dict[str, str]:
    socket = host.removeprefix("unix://")
    if not Path(socket).is_socket():
        raise StartError(
            f"no Docker engine answers at {socket}: start it, or set DOCKER_HOST; "
            "as root `make compose-demo ENGINE=own` starts one for the demo alone"
        )
    return {**os.environ, "DOCKER_HOST": host, "SQUASH_DOCKER_SOCKET": socket, **more}


@contextlib.contextmanager
def _own() -> Iterator[str]:
    if os.geteuid() != 0:
        raise StartError("ENGINE=own takes root: dockerd does")
    # Sockets in it must have a path of at most 107 bytes.
    base = Path(tempfile.gettempdir()) / f"squash-{secrets.token_hex(4)}"
    base.mkdir(mode=0o700)
    with engine.running(base) as host:
        load_base(host)
        yield host


def load_base(host: str) -> None:
    """Gives the engine the base image. It trusts what this machine trusts, for packages are fetched through it."""
    if not BASE.is_dir():
        raise StartError(f"{BASE} is missing; as root: scripts/setup base build/base")
    leave = [f"--exclude=./{name}/*" for name in _NEEDLESS]
    trusted: Sequence[str] = ["-C", "/", str(_TRUSTED.relative_to("/"))] if _TRUSTED.is_dir() else []
    with subprocess.Popen(["tar", "-C", BASE, *leave, "-c", ".", *trusted], stdout=subprocess.PIPE) as tar:
        subprocess.run(
            ["docker", "--host", host, "import", "-", BASE_IMAGE], stdin=tar.stdout, capture_output=True, check=True
        )

"""The shop in containers, as docker-compose.yml describes it: built, started, and gone without a trace."""

import contextlib
import os
import secrets
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from demo.janitor import MARK
from demo.world import ROOT, StartError

START = 300.0
"""Seconds for all containers to be healthy, on a slow and busy machine."""
BUILD = 3600.0
"""Seconds for all images, where nothing is cached."""
LEAVE = 120.0
ONE_OF_EACH = (
    "coordinator", "pricing-sidecar", "agent", "engine", "pricing", "stock", "shipping", "promotion", "ledger",
)  # fmt: skip
"""Services that have all the images among them."""
_TOKEN = ("run", "--rm", "--no-deps", "-T", "--entrypoint", "cat", "squashctl", "/run/secrets/squash/token")


class Shop:
    """A Compose project of its own name, so that several do not meet; `directory` is for files of clients."""

    def __init__(self, command: list[str], environment: Mapping[str, str], directory: Path) -> None:
        self.project = f"squash-story-{secrets.token_hex(4)}"
        self.directory = directory
        self._command = [*command, "--project-name", self.project, "--project-directory", str(ROOT)]
        # A free port for the coordinator, whatever else is up.
        self._environment = {**environment, "SQUASH_PORT": "0", "COMPOSE_PROGRESS": "plain"}

    def run(self, *words: str, limit: float = 60.0) -> str:
        """What `docker compose …` writes. Raises StartError with its last words."""
        try:
            # A session of its own: Ctrl-C is for the story, which then still needs Compose to clean up.
            done = subprocess.run(
                [*self._command, *words],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=limit,
                env=self._environment, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise StartError(f"docker compose {words[0]} took longer than {limit:g} s") from error
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-25:])
            raise StartError(f"docker compose {' '.join(words)} ended with status {done.returncode}:\n{last}")
        return done.stdout

    def build(self) -> None:
        # One by one: the engine's older builder trips when it makes an image for several services at once.
        for service in ONE_OF_EACH:
            self.run("build", service, limit=BUILD)

    def up(self, *services: str) -> None:
        """Returns when all are healthy. Raises StartError that tells what those that are not have said."""
        try:
            self.run("up", "--detach", "--no-build", "--wait", *services, limit=START)
        except StartError as error:
            said = self.run("logs", "--no-color", "--tail", "10", limit=LEAVE)
            raise StartError(f"{error}\n{said}") from error

    def down(self) -> None:
        """Containers, networks and volumes are gone; images stay."""
        self.run("--profile", "*", "down", "--volumes", "--remove-orphans", limit=LEAVE)

    def address(self, service: str, port: int) -> str:
        """Where a port of a container is reached on this machine, as HOST:PORT."""
        return self.run("port", service, str(port)).strip()

    def container(self, service: str) -> str:
        """The id of a service's container."""
        return self.run("ps", "--quiet", service).strip()

    def token(self) -> str:
        """The developer's."""
        return self.run(*_TOKEN).strip()

    def token_command(self) -> str:
        """What a shell reads it by, so that it need not be shown."""
        words = [*self._command, *_TOKEN]
        if host := self._environment.get("DOCKER_HOST"):
            words = ["env", f"DOCKER_HOST={host}", *words]
        return shlex.join(words)

    def environment(self) -> dict[str, str]:
        """For squashctl on this machine, with the developer's token."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("SQUASH")}
        url = f"http://{self.address('coordinator', 8602)}"
        marked = {key: value for key, value in self._environment.items() if key in (MARK, "TMPDIR")}
        return {**own, **marked, "SQUASH_SERVER_URL": url, "SQUASH_TOKEN": self.token()}


@contextlib.contextmanager
def opened(command: list[str], environment: Mapping[str, str]) -> Iterator[Shop]:
    """All of it, up and healthy; nothing but the images is left afterwards. Raises StartError."""
    with tempfile.TemporaryDirectory(prefix="squash-demo-", dir=environment.get("TMPDIR")) as directory:
        shop = Shop(command, environment, Path(directory))
        shop.build()
        try:
            shop.up()
            yield shop
        finally:
            shop.down()

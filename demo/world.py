"""Squash and a few services on one machine, as real processes that all end with whoever started them.

Used by the demo, the end-to-end tests and the benchmarks alike. Every port is a free one.
"""

import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.janitor import MARK
from squash import procfs
from squash.client import Client
from squash.options import Address

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
ENVOY = Path(os.environ.get("SQUASH_ENVOY", ROOT / ".venv-envoy/bin/envoy"))
START = 30.0
"""Seconds for a process to say that it is ready, on a slow and busy machine."""


class StartError(Exception):
    """A process did not come up; the message ends with the last lines of its log."""


class Child:
    """A process and its log. `where` is what it said when it was ready: a URL, for whatever listens."""

    def __init__(self, name: str, program: str, process: subprocess.Popen[str], log: Path) -> None:
        self.name = name
        self.program = program
        self.process = process
        self.log = log
        self.where = ""
        self.follower: threading.Thread | None = None
        """Copies its output to the log."""

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> Address:
        return Address.parse(self.where.removeprefix("http://"))

    def kill(self) -> None:
        """kill -9, and gone when this returns."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        self.process.terminate()
        return self.process.wait(START)

    def last_words(self, lines: int = 12) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class World:
    """A context manager: everything started through it is gone after it, also when this process is killed."""

    def __init__(self, label: str = "squash", namespace: str = "") -> None:
        """`namespace` of the pods: one of its own when empty, for worlds on one machine see each other's processes."""
        name = f"{label}-{secrets.token_hex(4)}"
        self.directory = Path(tempfile.gettempdir()) / name
        self.namespace = namespace or name
        # It knows of everything before it is made: whoever interrupts us in between leaves nothing behind.
        self._janitor = subprocess.Popen(
            [sys.executable, "-m", "demo.janitor"],
            stdin=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            start_new_session=True,
        )
        self._tell(f"directory {self.directory}")
        self.directory.mkdir(mode=0o700)
        self._coordinator_url = ""
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends everything and waits until it is gone, also when Ctrl-C comes meanwhile."""
        try:
            self._end()
        except KeyboardInterrupt:
            self._end()
            raise

    def _end(self) -> None:
        if self._janitor.stdin:
            self._janitor.stdin.close()
        self._janitor.wait()
        for child in self._children:
            child.process.wait()
            if child.follower:
                child.follower.join()
            if child.process.stdout:
                child.process.stdout.close()

    @property
    def children(self) -> tuple[Child, ...]:
        """What was started, also what has ended since."""
        return tuple(self._children)

    # -- the programs ------------------------------------------------------------------------------

    def coordinator(self, *options: str) -> Child:
        """Start it again after its death, and it comes back on the same port with the same store."""
        listen = self._coordinator_url.removeprefix("http://") or "127.0.0.1:0"
        database = self.directory / "coordinator.db"
        argv = [str(BIN / "squash-coordinator"), "--listen", listen, "--database", str(database), "--node", "here"]
        child = self.start("coordinator", [*argv, *options], stage=0)
        self._coordinator_url = child.where
        return child

    def client(self) -> Client:
        return Client(self._coordinator_url)

    def agent(self, *options: str, name: str = "agent", environment: Mapping[str, str] = {}) -> Child:
        argv = [str(BIN / "squash-agent"), "--node", "here", "--runtime-dir", str(self.directory / name)]
        argv += ["--server-url", self._coordinator_url, *options]
        return self.start(name, argv, stage=3, environment=environment)

    def sidecar(self, pod: str, *options: str, listen: str = "127.0.0.1:0") -> Child:
        argv = [str(BIN / "squash-sidecar"), "--listen", listen, "--server-url", self._coordinator_url, *options]
        environment = self._container(pod, "squash-sidecar", "squash/sidecar")
        return self.start(f"{pod}-sidecar", argv, stage=1, environment=environment)

    def envoy(self, pod: str, upstream: str, sidecar: str, *options: str, listen: str = "127.0.0.1:0") -> Child:
        """A real Envoy with our filter, rendered by `squashctl envoy config` with `options`."""
        argv = [str(BIN / "squashctl"), "envoy", "config", "--listen", listen, "--admin", "127.0.0.1:0"]
        argv += ["--upstream", upstream.removeprefix("http://"), "--sidecar", sidecar.removeprefix("http://"), *options]
        rendered = subprocess.run(argv, capture_output=True, text=True, check=False, env=self.environment())
        if rendered.returncode:
            raise StartError(f"squashctl envoy config: {rendered.stderr}")
        return self.bare_envoy(f"{pod}-envoy", rendered.stdout, self._container(pod, "envoy", "envoyproxy/envoy"))

    def bare_envoy(self, name: str, bootstrap: str, environment: Mapping[str, str] = {}) -> Child:
        """An Envoy with this bootstrap; `where` is its first listener."""
        config, admin = self.directory / f"{name}.yaml", self.directory / f"{name}.admin"
        config.write_text(bootstrap)
        argv = [str(ENVOY), "-c", str(config), "--disable-hot-restart", "--concurrency", "1", "--log-level", "info"]
        argv += ["--admin-address-path", str(admin)]
        child = self._spawn(name, argv, 1, environment, announces=False)
        self._follow_log(child, "starting workers")
        with urllib.request.urlopen(f"http://{admin.read_text()}/listeners?format=json") as answer:
            found = json.load(answer)["listener_statuses"][0]["local_address"]["socket_address"]
        child.where = f"http://{Address(found['address'], found['port_value'])}"
        return child

    def service(
        self,
        pod: str,
        image: str,
        argv: Sequence[str],
        environment: Mapping[str, str] = {},
    ) -> Child:
        """A process of the user's: says `NAME ready on URL`, and counts as a container of the local platform."""
        return self.start(pod, argv, stage=2, environment=self._container(pod, "app", image) | dict(environment))

    # -- processes in general ------------------------------------------------------------------------

    def start(
        self,
        name: str,
        argv: Sequence[str],
        stage: int,
        environment: Mapping[str, str] = {},
    ) -> Child:
        """Starts a process that says `NAME ready on WHERE` on stdout. Raises StartError.

        At the end higher stages go first: the agent, while what it debugs still runs.
        """
        child = self._spawn(name, argv, stage, environment)
        output = child.process.stdout
        assert output is not None  # noqa: S101 - for the type checker
        line = output.readline() if select.select([output], [], [], START)[0] else ""
        if " ready on " not in line:
            raise _failure(child)
        child.where = line.rsplit(" ready on ", 1)[1].strip()
        return child

    def _spawn(
        self, name: str, argv: Sequence[str], stage: int, environment: Mapping[str, str], *, announces: bool = True
    ) -> Child:
        """`announces`: it says on stdout when it is ready, and logs to stderr; otherwise both come by the pipe."""
        log = self.directory / f"{name}.log"
        with log.open("a") as stderr:
            try:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=stderr if announces else subprocess.STDOUT,
                    text=True,
                    env=self.environment(environment),
                    start_new_session=True,
                )
            except OSError as error:
                raise StartError(f"{name} cannot be started: {argv[0]}: {error.strerror}") from error
        stat = procfs.stat(process.pid)
        if stat:
            self._tell(f"process {stage} {process.pid} {stat.start_time}")
        child = Child(name, argv[0], process, log)
        self._children.append(child)
        return child

    def _follow_log(self, child: Child, ready: str) -> None:
        """Copies the process's output to its log from now on; returns when the line that says `ready` has come."""
        seen = threading.Event()

        def copy() -> None:
            assert child.process.stdout is not None  # noqa: S101 - for the type checker
            with child.log.open("a") as log:
                for line in child.process.stdout:
                    log.write(line)
                    log.flush()
                    if ready in line:
                        child.where = "somewhere"
                        seen.set()
            seen.set()

        child.follower = threading.Thread(target=copy, name=f"log of {child.name}", daemon=True)
        child.follower.start()
        if not seen.wait(START) or not child.where:
            raise _failure(child)

    def environment(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        """For whatever is started: ours, without settings of squash, and marked so that it ends with this world."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SQUASH")}
        return inherited | {MARK: str(self.directory)} | dict(more)

    def _container(self, pod: str, name: str, image: str) -> dict[str, str]:
        """What makes a plain process a container of the local platform."""
        names = {"SQUASH_POD": pod, "SQUASH_NAMESPACE": self.namespace}
        return names | {"SQUASH_CONTAINER": name, "SQUASH_IMAGE": image}

    def _tell(self, line: str) -> None:
        assert self._janitor.stdin is not None  # noqa: S101 - for the type checker
        self._janitor.stdin.write(line + "\n")
        self._janitor.stdin.flush()


def _failure(child: Child) -> StartError:
    """Why the process is not ready, as far as it says so."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(1)
    if child.follower:
        child.follower.join(1)
    status = child.process.returncode
    what = f"was not ready within {START:g} s" if status is None else f"ended with status {status} instead of starting"
    return StartError(f"{child.name} {what}: {child.program}\n{child.last_words()}".rstrip())

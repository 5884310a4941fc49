"""The programs that the coordinator's tests start, and end again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

BIN = Path(sys.executable).parent
API = "/api/v2"
ATTACHMENTS = f"{API}/debugattachment"
REQUESTS = f"{API}/debugrequest"


def environment(**more: str) -> dict[str, str]:
    """This process's environment without our settings."""
    return {key: value for key, value in os.environ.items() if not key.startswith("SQUASH_")} | more


class Coordinator:
    """A real squash-coordinator on a port of its own. Its stderr goes to `log`."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self._log = directory / "coordinator.log"
        # There are no agents and sidecars but the tests themselves, which take their time.
        leases = ("--agent-lease", "3600", "--holder-lease", "3600")
        place = ("--listen", "127.0.0.1:0", "--database", str(directory / "coordinator.db"), "--node", "here")
        flags = (*place, *leases, *flags)
        with self._log.open("ab") as errors:
            self.process = subprocess.Popen(
                [BIN / "squash-coordinator", *flags],
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.startswith("squash-coordinator ready on http"), f"{line!r}\n{self.log}"
        self.url = line.split()[-1]
        self.http = httpx.Client(base_url=self.url, trust_env=False, timeout=60)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit status."""
        self.http.close()
        self.process.send_signal(number)
        status = self.process.wait(60)
        if self.process.stdout:
            self.process.stdout.close()
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
        elif self.process.stdout:
            self.process.stdout.close()
            self.http.close()

    # -- what tests often ask for -------------------------------------------------------------------

    def wish(self, image: str, debugger: str = "", **spec: object) -> str:
        """Makes a debug request; its name."""
        answer = self.http.post(REQUESTS, json={"spec": {"image": image, "debugger": debugger, **spec}})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["metadata"]["name"])

    def attach(self, pod: str, *, match: bool = False, name: str | None = None, **spec: object) -> httpx.Response:
        body = {"metadata": {"name": name}, "spec": {"attachment": {"pod": pod}, "match_request": match, **spec}}
        return self.http.post(f"{ATTACHMENTS}/", json=body)

    def attached(self, pod: str, **spec: Any) -> str:
        """Makes a debug attachment; its name."""
        answer = self.attach(pod, **spec)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["metadata"]["name"])

    def patch(self, name: str, **status: object) -> httpx.Response:
        return self.http.patch(f"{ATTACHMENTS}/{name}", json={"status": status})

    def waiters(self) -> int:
        """How many long polls are under way."""
        lines = self.http.get("/metrics").text.splitlines()
        return int(float(next(line.split()[1] for line in lines if line.startswith("squash_waiters "))))

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """For what the coordinator tells only to those who ask again."""
        for _ in range(3_000):
            if condition():
                return
            time.sleep(0.01)
        raise AssertionError(f"{what} did not come\n{self.log}")


class Pods:
    """Plain processes that count as containers of pods."""

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    def run(self, pod: str, image: str, container: str = "", namespace: str = "") -> subprocess.Popen[bytes]:
        names = {
            "SQUASH_POD": pod,
            "SQUASH_IMAGE": image,
            "SQUASH_CONTAINER": container,
            "SQUASH_NAMESPACE": namespace,
        }
        process = subprocess.Popen(["sleep", "600"], env=environment(**names))
        self._processes.append(process)
        return process

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()

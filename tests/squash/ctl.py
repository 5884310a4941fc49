"""squashctl as its users run it."""

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

from tests.coordinator.program import BIN, environment

SQUASHCTL = BIN / "squashctl"


class Ctl:
    """Runs squashctl with a home of its own. `server` is where its coordinator answers; empty: it must be told."""

    def __init__(self, home: Path, server: str = "") -> None:
        names = {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "COLUMNS": "100"}
        self.env = environment(**names, **({"SQUASH_SERVER_URL": server} if server else {}))
        self.home = home

    def __call__(self, *argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [SQUASHCTL, *argv],
            env=self.env | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def json(self, *argv: str) -> Any:
        """The document on stdout of a command that must do well, and say nothing else."""
        done = self(*argv, "--json")
        assert (done.returncode, done.stderr) == (0, ""), done
        return json.loads(done.stdout)

    def failure(self, *argv: str, status: int) -> dict[str, Any]:
        """The error document on stderr of a command that must fail so."""
        done = self(*argv, "--json")
        assert (done.returncode, done.stdout) == (status, ""), done
        document = json.loads(done.stderr)
        assert document.keys() == {"error"}
        error: dict[str, Any] = document["error"]
        assert error["exit"] == status
        return error

    def start(self, *argv: str, stderr: int = subprocess.PIPE) -> "Running":
        return Running(
            subprocess.Popen(
                [SQUASHCTL, *argv],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        )


class Running:
    """A squashctl that waits."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def until(self, text: str) -> str:
        """Reads stderr up to the line that has the text."""
        assert self.process.stderr
        seen = ""
        for line in self.process.stderr:
            seen += line
            if text in line:
                return line
        raise AssertionError(f"{text!r} never came:\n{seen}")

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Status, and what is left of stdout and stderr."""
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err or ""

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        if self.process.stdout and self.process.stdout.closed:
            self.process.stdout = None
        self.process.communicate()

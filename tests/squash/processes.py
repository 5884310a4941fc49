"""Processes that tests look at."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.coordinator.program import environment


class Processes:
    """Shells that wait; each has spoken when `run` returns, so that its name and environment are its own by then.

    A process that was just executed has an empty environment for a moment.
    """

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def run(
        self, env: Mapping[str, str] | None = None, script: str = "echo ready; read line", program: str | Path = "sh"
    ) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [program, "-c", script],
            env=environment(**(env or {})),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        self._started.append(process)
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        return process

    def end(self) -> None:
        """At the end of their input they end."""
        for process in self._started:
            process.kill()
            process.communicate()

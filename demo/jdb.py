"""The JDK's own debugger, driven as a person would at its prompt."""

import os
import re
import select
import subprocess
import time
from types import TracebackType
from typing import Self


class Jdb:
    """`timeout` in seconds for whatever is waited for."""

    def __init__(self, address: str, timeout: float = 30.0) -> None:
        """`address` is that of a local end, HOST:PORT."""
        self._timeout = timeout
        self._process = subprocess.Popen(
            ["jdb", "-attach", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C.UTF-8", "JDK_JAVA_OPTIONS": "-Duser.language=en"},
        )
        self._said = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def ask(self, command: str, expected: str) -> re.Match[str]:
        """Types a command; what of the answer fits. Raises TimeoutError, ConnectionError."""
        self._said = ""
        self._type(command)
        return self.until(expected)

    def until(self, expected: str) -> re.Match[str]:
        """Reads on until that has come. Raises TimeoutError, ConnectionError."""
        output = self._process.stdout
        assert output is not None  # noqa: S101 - for the type checker
        deadline = time.monotonic() + self._timeout
        while not (found := re.search(expected, self._said)):
            if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"jdb did not say {expected!r}: {self._said}")
            data = os.read(output.fileno(), 65536)
            if not data:
                raise ConnectionError(f"jdb ended before it said {expected!r}: {self._said}")
            self._said += data.decode(errors="replace")
        return found

    def quit(self) -> None:
        """Lets the program run on, and leaves it."""
        self._type("exit")
        self._process.wait(self._timeout)

    def _type(self, command: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - for the type checker
        self._process.stdin.write(command.encode() + b"\n")
        self._process.stdin.flush()

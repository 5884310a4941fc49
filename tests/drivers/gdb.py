"""gdb itself, driven by its machine interface (GDB manual, "GDB/MI")."""

import contextlib
import queue
import re
import subprocess
import tempfile
import threading
import time
from typing import Self

from tests.drivers import PATIENCE, ClientError, Spot

_SETTINGS = (
    *("confirm off", "mi-async on", "sysroot /", "auto-solib-add off"),
    # A tunnel that takes longer to open than gdb's two seconds would have it ask again, and get two answers.
    "remotetimeout 60",
)
_FIELD = re.compile(r'([\w-]+)="((?:[^"\\]|\\.)*)"')


class GdbClient:
    def __init__(self, address: str, timeout: float = PATIENCE) -> None:
        self._timeout = timeout
        # A gdb that loses its connection at a bad moment may dump core, which goes with this directory.
        self._place = tempfile.TemporaryDirectory(prefix="squash-gdb-")
        self._process = subprocess.Popen(
            ["gdb", "-nx", "-q", "--interpreter=mi3"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._place.name,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reading = threading.Thread(target=self._read, name="gdb's output", daemon=True)
        self._reading.start()
        self._seen: list[str] = []
        self._events: list[str] = []
        self._number = 0
        self._running = False
        try:
            for command in _SETTINGS:
                self._ask(f"-gdb-set {command}")
            self._ask(f"-target-select remote {address.removeprefix('unix:')}")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, spot: Spot) -> None:
        if spot.program:
            self._ask(f"-file-exec-and-symbols {spot.program}")
        self._ask(f"-break-insert {spot.file}:{spot.line}")
        self.go_on()

    def stopped(self) -> str:
        event = self._event("*stopped")
        fields = dict(_FIELD.findall(event))
        if fields.get("reason") != "breakpoint-hit":
            raise ClientError(f"stopped for another reason: {event}")
        self._running = False
        return f"{fields['func']}:{fields['line']}"

    def value(self, name: str) -> int:
        return int(dict(_FIELD.findall(self._ask(f"-data-evaluate-expression {name}")))["value"])

    def change(self, name: str, value: int) -> None:
        self._ask(f"-gdb-set var {name}={value}")

    def go_on(self) -> None:
        self._events.clear()
        self._ask("-exec-continue")
        self._running = True

    def leave(self) -> None:
        if self._running:
            self._ask("-exec-interrupt")
            self._event("*stopped")
        self._ask("-break-delete")
        self._ask("-target-detach")
        self._say("-gdb-exit")
        self._process.wait(self._timeout)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reading.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._place.cleanup()

    def _ask(self, command: str) -> str:
        """The rest of the result record. Raises ClientError when it is an error."""
        number = self._say(command)
        answer = self._until(f"{number}^", keep=True)
        if not answer.startswith((f"{number}^done", f"{number}^running", f"{number}^connected")):
            raise ClientError(f"{command}: {answer}")
        return answer

    def _say(self, command: str) -> int:
        self._number += 1
        if not self._process.stdin:
            raise ClientError("gdb has no input")
        self._process.stdin.write(f"{self._number}{command}\n")
        self._process.stdin.flush()
        return self._number

    def _event(self, kind: str) -> str:
        for event in self._events:
            if event.startswith(kind):
                self._events.remove(event)
                return event
        return self._until(kind)

    def _until(self, start: str, *, keep: bool = False) -> str:
        """The next line that starts so; `keep`: events before it are for later. Raises ClientError, TimeoutError."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError(f"no {start!r} from gdb; it said: {''.join(self._seen)}") from None
            if not line:
                raise ClientError(f"gdb ended; it said: {''.join(self._seen)}")
            self._seen.append(line)
            if line.startswith(start):
                return line.strip()
            if keep and line.startswith("*stopped"):
                self._events.append(line.strip())

    def _read(self) -> None:
        if self._process.stdout:
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put("")

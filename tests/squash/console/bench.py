"""A world with one Python service, and consoles that debug it: by a script, or at a terminal."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from demo.world import World
from squash import procfs
from squash.calls import create_attachment, get_attachment
from squash.model import AttachmentSpec, DebugAttachment, HoldUntil
from tests.squash.ctl import SQUASHCTL, Ctl

SERVICE = Path(__file__).parent / "service.py"
LINE = 1 + SERVICE.read_text().splitlines().index("    result = number + extra  # the tests break here")
LONGEST = 60.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[=>78]|\x1b\][^\x07]*\x07|\r")


class Bench:
    def __init__(self, world: World, home: Path) -> None:
        self.world = world
        self.pod = f"console-{uuid4().hex}"
        self.coordinator = world.coordinator()
        self.ctl = Ctl(home, self.coordinator.where)
        self.ctl.env["XDG_STATE_HOME"] = str(home / "state")
        self.client = world.client()
        self.agent = world.agent()
        self.service = world.service(self.pod, f"demo/{self.pod}", [sys.executable, str(SERVICE)])

    def attachment(self, **spec: Any) -> str:
        where = {"pod": self.pod, "namespace": self.world.namespace}
        given = {"hold_until": HoldUntil.READY} | spec
        wanted = DebugAttachment(spec=AttachmentSpec(attachment=where, **given))
        return self.client.send(create_attachment(wanted)).name

    def get(self, name: str) -> DebugAttachment:
        return self.client.send(get_attachment(name))

    def script(self, name: str, *lines: str, argv: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [SQUASHCTL, "console", name, "--timeout", "40", *argv],
            input="".join(f"{line}\n" for line in lines),
            env=self.ctl.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    def documents(self, name: str, *lines: str, argv: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        done = self.script(name, *lines, argv=("--json", *argv))
        assert (done.returncode, done.stderr) == (0, ""), done
        return [json.loads(line) for line in done.stdout.splitlines()]

    def terminal(self, name: str, *argv: str, width: int = 100, **env: str) -> "Terminal":
        return Terminal([str(SQUASHCTL), "console", name, *argv], self.ctl.env | env, width)

    def running(self) -> bool:
        stat = procfs.stat(self.service.pid)
        return stat is not None and stat.state in "SR"


class Terminal:
    """A console at a terminal of its own, and what stands on it."""

    def __init__(self, argv: list[str], env: dict[str, str], width: int) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))
        # Nobody answers the question where the cursor is.
        whole = {key: value for key, value in env.items() if key != "COLUMNS"} | {"PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            argv,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"TERM": "xterm"} | whole,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no thread is started before
        )
        os.close(theirs)
        self.raw = ""
        self._read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)

    @property
    def text(self) -> str:
        """All that was written, without orders to the terminal."""
        return _ESCAPES.sub("", self.raw)

    def until(self, wanted: str) -> str:
        """What came since the last call, once the wanted text is in it."""
        end = time.monotonic() + LONGEST
        while wanted not in (fresh := self.text[self._read :]):
            if not select.select([self._ours], [], [], max(0.0, end - time.monotonic()))[0]:
                raise AssertionError(f"{wanted!r} never came: {fresh!r}")
            try:
                data = os.read(self._ours, 65_536)
            except OSError:
                data = b""
            if not data:
                raise AssertionError(f"it ended before {wanted!r} came: {fresh!r}")
            self.raw += data.decode(errors="replace")
        self._read += fresh.index(wanted) + len(wanted)
        return fresh

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def do(self, line: str, wanted: str) -> str:
        """Types a line; what came until the wanted text had."""
        self.type(line + "\r")
        return self.until(wanted)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.type("\x03")

    def end(self) -> int:
        """The status, once it has ended."""
        end = time.monotonic() + LONGEST
        while select.select([self._ours], [], [], max(0.0, end - time.monotonic()))[0]:
            try:
                data = os.read(self._ours, 65_536)
            except OSError:
                break  # as a terminal tells that nobody has it open any more
            if not data:
                break
            self.raw += data.decode(errors="replace")
        return self.process.wait(LONGEST)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(number)

"""Processes to debug, in the states that services are found in, and a session on one of them."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from agent.debuggers import Debugger, DebugServer, Target
from agent.process import Process
from agent.sessions import Doors, Ears, Session
from agent.terms import ORDINARY, Terms
from squash import procfs
from squash.logs import Log

NAMESPACE = f"tests-{os.getpid()}"
"""Of the pods that these tests start: others may run on this machine meanwhile."""
PROGRAM = Path(__file__).parent / "debuggee.py"
ROOMS = ("sleep", "select", "join", "event", "busy", "accept", "asyncio")
"""What the main thread of the debuggee does meanwhile."""


class Debuggee:
    """tests/agent/debuggee.py under some Python; answers one line for each line that it is told."""

    def __init__(self, python: str, room: str) -> None:
        self.process = subprocess.Popen(
            # Newer ones warn of forks in a process with threads, which is what is tested.
            [python, "-W", "ignore::DeprecationWarning", str(PROGRAM), room],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._read() == {"up": True}

    @property
    def pid(self) -> int:
        return self.process.pid

    def facts(self) -> Process:
        found = Process.read(self.pid)
        assert found
        return found

    def tell(self, order: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()

    def ask(self, order: str) -> dict[str, Any]:
        self.tell(order)
        return self._read()

    def answer(self) -> dict[str, Any]:
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def outside(self) -> dict[str, Any]:
        """What the kernel tells of the process."""
        status = procfs.status(self.pid)
        assert status
        links = {entry: os.readlink(f"/proc/{self.pid}/fd/{entry}") for entry in os.listdir(f"/proc/{self.pid}/fd")}
        return {
            # Once ctypes is imported, some builds of libffi keep open what they are in: the program or libpython.
            "files": sorted(entry for entry, link in links.items() if "python" not in Path(link).name),
            "threads": int(status["Threads"]),
            "tracer": status["TracerPid"],
            "blocked": status["SigBlk"],
        }


@contextmanager
def debuggee(room: str = "select", python: str = sys.executable) -> Iterator[Debuggee]:
    """Ends it afterwards; that it ran until then, without a word on stderr, is part of every test."""
    found = Debuggee(python, room)
    try:
        yield found
        assert found.process.poll() is None
    finally:
        found.process.kill()
        _, said = found.process.communicate()
    assert said == "", said


DEAF = Ears(connected=lambda _: None, left=lambda: None, ready=lambda _: None, event=lambda _, __: None)
"""For sessions of which nobody is told."""


@asynccontextmanager
async def session(
    debugger: Debugger, server: DebugServer, directory: Path, terms: Terms = ORDINARY
) -> AsyncIterator[str]:
    """The address of a socket at which clients find the debug server."""
    found = Session(server, debugger.protocol, Doors(directory / "c.sock"), Log("test"), terms, DEAF)
    address = await found.listen()
    try:
        yield address
    finally:
        await found.close()


def target(process: Process, directory: Path) -> Target:
    place = directory / "t"
    place.mkdir(mode=0o700, exist_ok=True)
    return Target(process, place)

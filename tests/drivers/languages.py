"""The five languages: the same small service in each (tests/runtimes/services), built for this machine."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from demo.story import facts
from squash import procfs
from tests.agent.goservice import delve
from tests.drivers import PATIENCE, Spot, find_line

SERVICES = Path(__file__).parent.parent / "runtimes" / "services"
GO_CACHE = Path(__file__).parents[2] / "build" / "go-cache"
"""Go compiles its standard library once for all builds."""
JDWP = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,quiet=y"
LOCAL, USUAL, CHANGED = "factor", 2, 3
"""The variable that decides the answer, what it is, and what the tests make of it."""
NUMBER = 21


def ask(where: str, timeout: float = PATIENCE) -> int:
    """The answer of the service at `http://HOST:PORT`. Raises OSError, HTTPException."""
    with contextlib.closing(HTTPConnection(where.removeprefix("http://"), timeout=timeout)) as connection:
        connection.request("GET", f"/scaled?number={NUMBER}")
        found: int = json.loads(connection.getresponse().read())["answer"]
        return found


@dataclass(frozen=True)
class Language:
    name: str
    debugger: str
    source: Path
    function: str = "scaled"
    own_threads: int = 0
    """How many more the runtime may make for itself at any time, and keep."""

    def spot(self, file: str | Path = "", program: Path | None = None) -> Spot:
        """The line that the tests break at; `file` is the source as the process knows it."""
        return Spot(str(file or self.source), find_line(self.source), self.function, program)

    def build(self, directory: Path) -> list[str]:
        """Makes what runs; the words of the command, without the service's own arguments."""
        return _BUILDERS[self.name](directory)

    def built(self, directory: Path) -> tuple[list[str], Spot]:
        """The command, and the spot of a process that was started with it."""
        command = self.build(directory)
        if self.name == "cpp":
            return command, self.spot(self.source.name, Path(command[0]))
        return command, self.spot()

    def elsewhere(self, spot: Spot) -> Spot:
        """Where nothing comes by in a service that was not told to be busy."""
        function = self.function.replace("scaled", "work")
        return spot._replace(line=find_line(self.source, "number % 7"), function=function)

    def look(self, pid: int) -> dict[str, Any]:
        """What the kernel tells of a debugger at a process of this language, and of doors that one may leave open."""
        found = facts(pid) | {"doors": len(procfs.listening(pid))}
        # A JVM that was asked for its debugger's port keeps the socket at which it can be asked.
        return found | {"debugger": False} if self.name == "java" else found


PYTHON = Language("python", "debugpy", SERVICES / "service.py")
CPP = Language("cpp", "gdb", SERVICES / "service.cc")
GO = Language("go", "delve", SERVICES / "service.go", own_threads=8)
"""A thread that is stopped in a system call has another one made for what waits, and Go never ends one."""
NODE = Language("node", "node", SERVICES / "service.js")
JAVA = Language("java", "jdwp", SERVICES / "Service.java", "Service.scaled")
LANGUAGES = {language.name: language for language in (PYTHON, CPP, GO, NODE, JAVA)}


def tools() -> dict[str, str]:
    """The environment in which an agent finds a delve that reads what this machine's Go makes."""
    return {"PATH": f"{Path(delve()).parent}{os.pathsep}{os.environ['PATH']}"}


def compile_cpp(program: Path, *flags: str) -> Path:
    _run(["g++", "-std=c++17", "-g", "-O0", "-pthread", *flags, "-o", str(program), str(CPP.source)])
    return program


def compile_go(program: Path, *flags: str) -> Path:
    """A static program, its debug information whole, optimised as little as delve would have it."""
    GO_CACHE.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(GO_CACHE), "GOFLAGS": "-mod=mod"}
    command = ["go", "build", "-gcflags=all=-N -l", *flags, "-o", str(program), str(GO.source)]
    _run(command, environment)
    return program


def compile_java(directory: Path) -> Path:
    """With the names of local variables."""
    _run(["javac", "-g", "-d", str(directory), str(JAVA.source)])
    return directory


def _java(directory: Path) -> list[str]:
    flag = f"{JDWP},address=127.0.0.1:0"
    # All of its heap, and every thread of its compiler, from the start: so what else comes can be seen.
    steady = ["-XX:+UseSerialGC", "-Xms32m", "-Xmx32m", "-XX:+AlwaysPreTouch", "-XX:TieredStopAtLevel=1"]
    steady.append("-XX:-UseDynamicNumberOfCompilerThreads")
    return ["java", *steady, flag, "-cp", str(compile_java(directory)), "Service"]


_BUILDERS = {
    "python": lambda _: [sys.executable, str(PYTHON.source)],
    "cpp": lambda directory: [str(compile_cpp(directory / "service"))],
    "go": lambda directory: [str(compile_go(directory / "service-go"))],
    # All tests share one loopback, and so would their inspectors their port; any other is as good.
    "node": lambda _: ["node", "--inspect-port=0", str(NODE.source)],
    "java": _java,
}


def _run(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"

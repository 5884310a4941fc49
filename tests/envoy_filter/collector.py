"""A real OTLP receiver (rotel, a collector from PyPI) that writes down the spans it gets."""

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import psutil

LAST = "k8s.namespace.name"
"""The attribute that a span of a sidecar in a pod ends with."""
_FIELD = re.compile(r"^ {4}([A-Z][A-Za-z ]+?) *: ?(.*)$|^(Start time|End time|[A-Z][a-z]+ [a-z]+): (.*)$")
_ATTRIBUTE = re.compile(r"^ {5}-> ([\w.-]+): \w+\((.*)\)$")


@dataclass
class Span:
    """As the receiver prints it: names of its own choice, values as text."""

    resource: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)


def read(lines: list[str]) -> list[Span]:
    """The spans among what the receiver printed."""
    spans: list[Span] = []
    resource: dict[str, str] = {}
    attributes = resource
    for line in lines:
        if line.startswith("ResourceSpans #"):
            attributes = resource = {}
        elif line.startswith("Span #"):
            spans.append(Span(resource))
            attributes = spans[-1].attributes
        elif match := _ATTRIBUTE.match(line):
            attributes[match[1]] = match[2]
        elif spans and (match := _FIELD.match(line)):
            spans[-1].fields[match[1] or match[3]] = match[2] or match[4] or ""
    return spans


class Collector:
    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self._process = process
        self.url = url
        self.lines: list[str] = []

    async def spans(self, count: int) -> list[Span]:
        """As soon as there are `count`."""
        assert self._process.stdout is not None
        async with asyncio.timeout(30):
            while len(found := read(self.lines)) < count or LAST not in found[-1].attributes:
                line = await self._process.stdout.readline()
                assert line, "the collector ended"
                self.lines.append(line.decode().rstrip("\n"))
        return found


@contextlib.asynccontextmanager
async def collector(directory: Path) -> AsyncIterator[Collector]:
    argv = [str(resources.files("rotel").joinpath("rotel-agent")), "start", "--exporter", "blackhole"]
    # Two addresses, so that the ports it chooses can be told apart.
    argv += ["--otlp-http-endpoint", "127.0.0.1:0", "--otlp-grpc-endpoint", "127.0.0.2:0"]
    argv += ["--debug-log", "traces", "--debug-log-verbosity", "detailed"]
    argv += ["--pid-file", str(directory / "rotel.pid"), "--log-file", str(directory / "rotel.log")]
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        yield Collector(process, f"http://127.0.0.1:{await _port(process.pid)}")
    finally:
        process.kill()
        await process.communicate()


async def _port(pid: int) -> int:
    """It does not say where it listens, so the kernel is asked until it does."""
    async with asyncio.timeout(30):
        while True:
            for found in psutil.Process(pid).net_connections("tcp4"):
                if found.status == psutil.CONN_LISTEN and found.laddr.ip == "127.0.0.1":
                    return int(found.laddr.port)
            await asyncio.sleep(0.02)


def hanging() -> socket.socket:
    """A listening socket behind which nobody ever answers."""
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock

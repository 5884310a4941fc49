"""A service on the JVM to debug, and a debugger that says exactly what a test wants."""

import asyncio
import contextlib
import http.client
import itertools
import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from agent import netns
from agent.process import Process
from agent.protocols.jdwp_packets import HANDSHAKE, HEADER, Command, command
from agent.streams import Stream
from squash import procfs

SOURCE = Path(__file__).parent / "Prices.java"
PATIENCE = 20.0
EVENT_THREAD, ALL = 1, 2
BREAKPOINT, CLASS_PREPARE = 2, 8


def sleeps() -> bool:
    """Whether this Java knows `onjcmd=y`: some releases do."""
    java = shutil.which("java")
    library = Path(java).resolve().parent.parent / "lib/libjdwp.so" if java else Path()
    return library.is_file() and b"onjcmd" in library.read_bytes()


LISTENS = "-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,quiet=y"
SLEEPS = f"{LISTENS},onjcmd=y,address=127.0.0.1:0"
JDWP = SLEEPS if sleeps() else f"{LISTENS},address=127.0.0.1:0"
"""JDWP as users of this Java would have it."""


def line_of(text: str) -> int:
    """The number of the one line with this text."""
    [found] = [number for number, line in enumerate(SOURCE.read_text().splitlines(), 1) if text in line]
    return found


TOTAL, REBATE = line_of("// the tests break here"), line_of("// or here")


def build(directory: Path) -> Path:
    """The directory with the classes, with debug information, for any user."""
    directory.chmod(0o755)
    subprocess.run(["javac", "-g", "-d", directory, SOURCE], check=True)
    return directory


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


class Jvm:
    """One running instance."""

    def __init__(self, classes: Path, options: Sequence[str], environment: Mapping[str, str], before: Sequence[str]):
        java = shutil.which("java")
        assert java
        self.child = subprocess.Popen(
            [*before, java, *options, "-XX:TieredStopAtLevel=1", "-cp", str(classes), "Prices"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )
        self.url = ""
        self.over = False

    def started(self) -> None:
        assert self.child.stdout
        said = ""
        for line in self.child.stdout:
            said += line
            if line.startswith("prices ready on "):
                self.url = line.split()[-1]
                break
        assert self.url, said

    @property
    def pid(self) -> int:
        """Of the JVM itself, whatever it was started by."""
        pid = self.child.pid
        while (stat := procfs.stat(pid)) and stat.comm != "java" and (children := procfs.children(pid)):
            pid = children[0]
        return pid

    @property
    def process(self) -> Process:
        found = Process.read(self.pid)
        assert found
        return found

    @property
    def ports(self) -> set[tuple[str, int]]:
        """Where it listens for others than its callers."""
        return {place for place in procfs.listening(self.pid) if place[1] != int(self.url.rpartition(":")[2])}

    async def price(self, count: int, what: str = "price") -> int:
        """Asked as from inside its network."""
        return await asyncio.to_thread(self._price, f"/{what}?{count}")

    def _price(self, path: str) -> int:
        port = int(self.url.rpartition(":")[2])
        asking = http.client.HTTPConnection("127.0.0.1", port)
        asking.sock = netns.connect(self.pid, "127.0.0.1", port, PATIENCE)
        with contextlib.closing(asking):
            asking.request("GET", path)
            return int(asking.getresponse().read())

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.child.kill()
        self.child.communicate()


@contextmanager
def jvm(classes: Path, *options: str, environment: Mapping[str, str] = {}, before: Sequence[str] = ()) -> Iterator[Jvm]:
    """Ends it afterwards; that it ran until then is part of every test, unless that says that it is over."""
    found = Jvm(classes, options, environment, before)
    try:
        found.started()
        yield found
        assert found.over or found.child.poll() is None
    finally:
        found.kill()


class Place(NamedTuple):
    kind: int
    type: int
    method: int
    at: int

    @property
    def raw(self) -> bytes:
        return struct.pack(">BQQQ", *self)


class Hit(NamedTuple):
    thread: int
    place: Place


class Cursor:
    """Reads the fields of a body."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, form: str) -> int:
        packed = struct.Struct(">" + form)
        [found] = packed.unpack_from(self._body, self._at)
        self._at += packed.size
        return int(found)

    def text(self) -> str:
        size = self.take("I")
        self._at += size
        return self._body[self._at - size : self._at].decode()


class Debugger:
    """A client of JDWP."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._numbers = itertools.count(1)
        self._answers: dict[int, bytes] = {}
        self._body = b""
        self.hits: list[Hit] = []
        self.others: list[int] = []
        """Kinds of the other events that came."""

    @classmethod
    async def at(cls, path: Path) -> Self:
        found = cls(Stream(*await asyncio.open_unix_connection(path)))
        await found.greet()
        return found

    async def greet(self) -> None:
        self.stream.writer.write(HANDSHAKE)
        await self._hear()

    async def ask(self, what: Command, body: bytes = b"") -> tuple[int, Cursor]:
        """The error code, and the answer's body."""
        number = self.say(what, body)
        async with asyncio.timeout(PATIENCE):
            while number not in self._answers:
                await self._hear()
        raw = self._answers.pop(number)
        error: int = struct.unpack_from(">H", raw, 9)[0]
        return error, Cursor(raw[HEADER.size :])

    def say(self, what: Command, body: bytes = b"") -> int:
        number = next(self._numbers)
        self.stream.writer.write(command(number, what, body))
        return number

    async def done(self, what: Command, body: bytes = b"") -> Cursor:
        """The body of an answer that is no error."""
        error, found = await self.ask(what, body)
        assert error == 0, (what, error)
        return found

    async def _hear(self) -> None:
        data = await self.stream.reader.read(65_536)
        if not data:
            raise EOFError
        self._body += data
        if self._body.startswith(HANDSHAKE):
            self._body = self._body[len(HANDSHAKE) :]
        while len(self._body) >= 4 and len(self._body) >= (size := struct.unpack_from(">I", self._body)[0]):
            raw, self._body = self._body[:size], self._body[size:]
            if raw[8] & 0x80:
                self._answers[struct.unpack_from(">I", raw, 4)[0]] = raw
            else:
                self._happened(Cursor(raw[HEADER.size :]))

    def _happened(self, body: Cursor) -> None:
        body.take("B")
        for _ in range(body.take("I")):
            kind = body.take("B")
            body.take("I")
            if kind != BREAKPOINT:
                self.others.append(kind)
                return
            thread = body.take("Q")
            self.hits.append(Hit(thread, Place(body.take("B"), body.take("Q"), body.take("Q"), body.take("Q"))))

    async def hit(self) -> Hit:
        async with asyncio.timeout(PATIENCE):
            while not self.hits:
                await self._hear()
        return self.hits.pop(0)

    async def place(self, name: str, method: str, line: int) -> Place:
        """Where a line of a loaded class begins."""
        signature = f"L{name};".encode()
        found = await self.done((1, 2), struct.pack(">I", len(signature)) + signature)
        assert found.take("I") == 1
        kind, number = found.take("B"), found.take("Q")
        methods = await self.done((2, 5), struct.pack(">Q", number))
        ids = {}
        for _ in range(methods.take("I")):
            ident = methods.take("Q")
            ids[methods.text()] = ident
            methods.text()
            methods.take("I")
        table = await self.done((6, 1), struct.pack(">QQ", number, ids[method]))
        table.take("Q")
        table.take("Q")
        lines = [(table.take("Q"), table.take("I")) for _ in range(table.take("I"))]
        return Place(kind, number, ids[method], next(index for index, at in lines if at == line))

    async def stop_at(self, place: Place, policy: int = EVENT_THREAD) -> None:
        await self.done((15, 1), struct.pack(">BBI", BREAKPOINT, policy, 1) + b"\x07" + place.raw)

    async def stop_in_price(self, policy: int = EVENT_THREAD) -> None:
        await self.stop_at(await self.place("Prices", "price", TOTAL), policy)

    async def await_class(self, name: str) -> None:
        """Stops all when the class is loaded."""
        pattern = struct.pack(">BI", 5, len(name)) + name.encode()
        await self.done((15, 1), struct.pack(">BBI", CLASS_PREPARE, ALL, 1) + pattern)

    async def variables(self, hit: Hit) -> dict[str, tuple[int, int, int]]:
        """Numbers in the uppermost frame: its id, the slot and the value, by name."""
        frames = await self.done((11, 6), struct.pack(">QII", hit.thread, 0, 1))
        assert frames.take("I") == 1
        frame = frames.take("Q")
        table = await self.done((6, 2), struct.pack(">QQ", hit.place.type, hit.place.method))
        table.take("I")
        found = {}
        for _ in range(table.take("I")):
            table.take("Q")
            name, kind = table.text(), table.text()
            table.take("I")
            slot = table.take("I")
            assert kind == "I"
            values = await self.done((16, 1), struct.pack(">QQIIc", hit.thread, frame, 1, slot, b"I"))
            values.take("I")
            values.take("B")
            found[name] = frame, slot, values.take("i")
        return found

    def assignment(self, hit: Hit, frame: int, slot: int, value: int) -> bytes:
        return struct.pack(">QQIIci", hit.thread, frame, 1, slot, b"I", value)

    async def vanish(self) -> None:
        self.stream.writer.transport.abort()

    async def over(self) -> None:
        """Waits until the other end has closed."""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(EOFError, OSError):
                while True:
                    await self._hear()
        await self.stream.close()


async def runs(running: Jvm) -> None:
    """It answers again, or soon so."""
    async with asyncio.timeout(10):
        assert await running.price(3) == 21

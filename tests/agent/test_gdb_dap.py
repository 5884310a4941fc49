"""gdb's own debug adapter as the client, as an editor starts it: needs gdb 14 or newer, `SQUASH_GDB` names one."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.sessions import Ears
from demo.dap import Dap
from squash.cli.editors import Place, gdb_adapter
from squash.options import Address
from tests.agent.native import Service, build, service, until
from tests.agent.test_gdb import session

GDB = os.environ.get("SQUASH_GDB", "gdb")
_HAS = subprocess.run([GDB, "-nx", "-batch", "-ex", "python import gdb.dap"], capture_output=True, check=False).stderr
pytestmark = pytest.mark.skipif(b"Error" in _HAS, reason="takes gdb 14 or newer: name one in SQUASH_GDB")
LINE = "int seldom(int x)"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("native"))


@pytest.fixture
async def running(program: Path, short: Path) -> AsyncIterator[Service]:
    async with service(program, short) as found:
        yield found


class Adapter:
    """gdb, as an editor starts it, and the editor."""

    def __init__(self, running: Service, path: Path) -> None:
        place = Place(Address("127.0.0.1", 1), "gdb", "gdb", sysroot="/", program=str(running.program))
        arguments, attach = gdb_adapter(place)
        self.attach = {**attach, "target": str(path)}
        self.source = running.program.with_suffix(".cc")
        door = path.with_name("editor.sock")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(door))
            listener.listen()
            self.editor = Dap(f"unix:{door}", timeout=60)
            end, _ = listener.accept()
        door.unlink()
        with end:
            argv, pipe = [GDB, "-nx", *arguments], end.fileno()
            self.gdb = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)

    def stop_at_seldom(self) -> int:
        """The thread that stands there."""
        line = next(n for n, text in enumerate(self.source.read_text().splitlines(), 1) if LINE in text)
        self.editor.attach({str(self.source): [line]}, **self.attach)
        thread = self.stopped()
        self.editor.ask("continue", threadId=thread)
        return self.stopped()

    def stopped(self) -> int:
        thread: int = self.editor.event("stopped")["threadId"]
        return thread


@contextmanager
def adapter(running: Service, path: Path) -> Iterator[Adapter]:
    found = Adapter(running, path)
    try:
        yield found
    finally:
        found.editor.close()
        found.gdb.kill()
        found.gdb.wait()


async def test_an_editor_debugs_with_gdbs_own_adapter(running: Service) -> None:
    address = running.address("seldom")
    ready = asyncio.Event()
    ears = Ears(lambda _: None, lambda: None, lambda _: ready.set(), lambda _, __: None)
    async with session(running, ears=ears) as path:
        with adapter(running, path) as found:
            thread = await asyncio.to_thread(found.stop_at_seldom)
            assert ready.is_set()
            assert await asyncio.to_thread(_local, found.editor, thread) == "1"
            frame = found.editor.ask("stackTrace", threadId=thread)["stackFrames"][0]
            await asyncio.to_thread(lambda: found.editor.ask("evaluate", expression="knob = 41", frameId=frame["id"]))
            await asyncio.to_thread(lambda: found.editor.ask("disconnect"))
            await running.is_free(address)
            await until(lambda: running.answer == 42)
        await until(lambda: not running.debuggers())


async def test_the_adapter_is_killed_at_a_breakpoint(running: Service) -> None:
    address = running.address("seldom")
    async with session(running) as path:
        with adapter(running, path) as found:
            await asyncio.to_thread(found.stop_at_seldom)
            found.gdb.send_signal(signal.SIGKILL)
            await running.is_free(address)
        await until(lambda: not running.debuggers())


def _local(editor: Dap, thread: int) -> Any:
    frame = editor.ask("stackTrace", threadId=thread)["stackFrames"][0]["id"]
    scopes = editor.ask("scopes", frameId=frame)["scopes"]
    variables = editor.ask("variables", variablesReference=scopes[0]["variablesReference"])["variables"]
    return next(each["value"] for each in variables if each["name"] == "x")

"""The control line, where the code inside misbehaves."""

import asyncio
import os
import socket
import subprocess
from pathlib import Path

import pytest

from agent import line as line_module
from agent.inner import Inner
from agent.line import Line
from agent.process import Process
from agent.streams import Stream
from agent.terms import ORDINARY
from squash.tasks import spawn


async def test_a_process_that_says_it_dialed_and_did_not(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "CONNECT", 0.2)
    this = Process.read(os.getpid())
    assert this
    line = Line(this, Inner(this, short))
    ours, theirs = socket.socketpair()
    inside = Stream(*await asyncio.open_connection(sock=theirs))
    line._control.set_result(Stream(*await asyncio.open_connection(sock=ours)))
    inside.writer.write(b'{"done": "client"}\n')
    with pytest.raises(ConnectionError, match="nobody came"):
        await asyncio.wait_for(line.client(ORDINARY), 60)
    assert line.ended.is_set()
    await line._control.result().close()
    await inside.close()


async def test_a_process_that_ends_before_it_dials(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "CONNECT", 1000.0)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        process = Process.read(child.pid)
        assert process
        line = Line(process, Inner(process, short))
        line.inner.make()
        await line.listen()
        inside = Stream(*await asyncio.open_unix_connection(line.path))
        inside.writer.write(f"{line.ticket} control\n".encode() + b'{"done": "client"}\n' * 2)
        await asyncio.wait_for(asyncio.shield(line._control), 60)
        waiting = [spawn(line.client(ORDINARY), "a client") for _ in range(2)]
        assert await asyncio.wait_for(inside.reader.readexactly(14), 60) == b"client\nclient\n"
        child.kill()
        for client in waiting:
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(client, 20)
        await line.close()
        await inside.close()


@pytest.mark.parametrize("said", [b"x" * 200_000, b"[" * 60_000, b"[1, 2]", b"7", b"no JSON", b'{"done": 7'])
async def test_a_process_that_says_anything_ends_the_line(short: Path, said: bytes) -> None:
    this = Process.read(os.getpid())
    assert this
    line = Line(this, Inner(this, short))
    line.inner.make()
    await line.listen()
    inside = Stream(*await asyncio.open_unix_connection(line.path))
    inside.writer.write(f"{line.ticket} control\n".encode() + said + b"\n")
    await asyncio.wait_for(asyncio.shield(line._control), 60)
    assert not await asyncio.wait_for(line.tell("detach"), 60)
    assert line.ended.is_set()
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(line.client(ORDINARY), 60)
    await line.close()
    await inside.close()
    assert not await asyncio.wait_for(line.tell("detach"), 60)

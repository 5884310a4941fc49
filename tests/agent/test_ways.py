"""The ladder into a Python: each way by itself, and which one is taken."""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import inject, machines, ways
from agent.debuggers import debugpy
from agent.debuggers.debugpy import Debugpy
from agent.process import Process
from squash.errors import SquashError
from squash.reasons import Reason

from .native import until
from .pythons import NEWEST
from .targets import Debuggee, debuggee, session, target
from .visits import settled, stop_at_price

newest = pytest.mark.skipif(not NEWEST.exists(), reason="no CPython 3.14: make build/python3.14/.done")
EMBEDDING = """
#include <dlfcn.h>
#include <stddef.h>
int main(int argc, char **argv) {
  void *library = argc < 2 ? NULL : dlopen(argv[1], RTLD_NOW | RTLD_GLOBAL);
  if (!library) return 2;
  int (*run)(int, char **) = (int (*)(int, char **))dlsym(library, "Py_BytesMain");
  return run(argc - 1, argv + 1);
}
"""


async def attached(service: Debuggee, short: Path) -> list[str]:
    """Attaches, debugs, detaches; the strategies that were tried, those in vain with their reason."""
    debugger, before = Debugpy(), (service.ask("look"), service.outside())
    place = target(service.facts(), short)
    server = await debugger.attach(place)
    async with session(debugger, server, short) as address:
        seen = await asyncio.to_thread(stop_at_price, address, service, change="42")
    assert seen["answer"] == {"price": 42}
    await server.detach()
    assert await settled(service, before) == before
    return [f"{tried.strategy}: {tried.message}" if tried.message else tried.strategy for tried in place.attempts]


@newest
@pytest.mark.parametrize("room", ["busy", "asyncio"])
async def test_the_newest_python_is_asked_itself(room: str, short: Path) -> None:
    with debuggee(room, str(NEWEST)) as service:
        assert await attached(service, short) == ["remote_exec"]


@newest
async def test_one_that_sleeps_would_not_look(short: Path) -> None:
    with debuggee("select", str(NEWEST)) as service:
        refused, taken = await attached(service, short)
    assert refused.startswith("remote_exec: ")
    assert refused.endswith("its main thread sleeps, and would not look before it wakes up")
    assert taken == "ptrace, direct"


@newest
async def test_one_that_must_not_be_asked_is_not(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_DISABLE_REMOTE_DEBUG", "1")
    with debuggee("busy", str(NEWEST)) as service:
        refused, taken = await attached(service, short)
    assert "PYTHON_DISABLE_REMOTE_DEBUG" in refused
    assert taken == "ptrace, pending"


@newest
async def test_a_wish_that_is_given_up_is_taken_back(short: Path) -> None:
    """The main thread sits in C code and comes to no safe point; when it does, there is nothing to execute."""
    code = "import re, sys; print('up', flush=True); re.match(r'(a+)+b', 'a' * 27)\n"
    code += "print('back', flush=True); sys.stdin.read()"
    pipe = subprocess.PIPE
    with subprocess.Popen([NEWEST, "-c", code], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as service:
        try:
            assert service.stdout
            service.stdout.readline()
            process = Process.read(service.pid)
            assert process
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await Debugpy().attach(target(process, short))
            shutil.rmtree(short / "t")
            assert await asyncio.to_thread(service.stdout.readline) == "back\n"
            _, said = await asyncio.to_thread(service.communicate, "")
            assert (service.returncode, said) == (0, "")
        finally:
            service.kill()


@pytest.mark.parametrize("room", ["busy", "select", "join"])
async def test_gdb_enters_too(room: str, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debugpy, "WAYS", (ways.Gdb(),))
    with debuggee(room) as service:
        assert await attached(service, short) == ["gdb"]


async def test_gdb_comes_where_ptrace_knows_no_way(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign(ways.Ptrace):
        async def enter(self, errand: ways.Errand) -> str:
            raise ways.NoWayError(Reason.DEBUGGER_UNSUITED, "attaching by ptrace does not know pdp11")

    monkeypatch.setattr(debugpy, "WAYS", (Foreign(), ways.Gdb()))
    with debuggee() as service:
        assert await attached(service, short) == ["ptrace: attaching by ptrace does not know pdp11", "gdb"]


async def test_without_gdb_the_last_way_says_so(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debugpy, "WAYS", (ways.Gdb(),))
    monkeypatch.setenv("PATH", str(short))
    with debuggee() as service:
        with pytest.raises(SquashError) as refusal:
            await Debugpy().attach(target(service.facts(), short))
        assert refusal.value.reason is Reason.DEBUGGER_MISSING


def test_an_unknown_machine_is_left_to_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "this", lambda: None)
    with pytest.raises(machines.RefusedError, match="does not know") as refusal:
        inject.inject(os.getpid(), 0, "")
    assert refusal.value.other_way


@contextlib.contextmanager
def embedded(library: Path, directory: Path, room: str) -> Iterator[Debuggee]:
    """The service in a program that has its interpreter from a shared library."""
    source, program = directory / "embedding.c", directory / "embedding"
    source.write_text(EMBEDDING)
    subprocess.run(["gcc", "-o", program, source, "-ldl"], check=True)
    wrapper = directory / "python"
    wrapper.write_text(f'#!/bin/sh\nPYTHONHOME={library.parent.parent} exec {program} {library} "$@"\n')
    wrapper.chmod(0o755)
    with debuggee(room, str(wrapper)) as service:
        yield service


@newest
@pytest.mark.parametrize("room", ["busy", "select"])
async def test_an_interpreter_in_a_shared_library(room: str, short: Path) -> None:
    library = NEWEST.parent.parent / "lib/libpython3.14.so.1.0"
    with embedded(library, short, room) as service:
        assert Debugpy().claim(service.facts()) > 0
        strategies = await attached(service, short)
    assert strategies[-1] == ("remote_exec" if room == "busy" else "ptrace, direct"), strategies


@pytest.mark.parametrize("room", ["busy", "select"])
async def test_gdb_leaves_no_page_behind(room: str, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debugpy, "WAYS", (ways.Gdb(),))
    with debuggee(room) as service:
        for _turn in range(2):
            await attached(service, short)
        service.tell("look")
        await until(lambda: pages_beginning_with(service.pid, b"exec('try:") == 0)


async def test_gdbs_source_is_no_file_that_a_user_can_replace(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret, called = short / "secret", []
    secret.write_text("the agent's own")

    class Replaced(ways.Gdb):
        async def enter(self, errand: ways.Errand) -> str:
            for name in ("gdb-source",):
                (errand.line.inner.own / name).symlink_to(secret)
            called.append(name)
            return await super().enter(errand)

    monkeypatch.setattr(debugpy, "WAYS", (Replaced(),))
    with debuggee() as service:
        await attached(service, short)
    assert called
    assert secret.read_text() == "the agent's own"


def pages_beginning_with(pid: int, start: bytes) -> int:
    """How many pages of a process's own memory begin with these bytes."""
    found = 0
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for mapping in inject.mappings(pid):
            if mapping.rights == "rw-p" and not mapping.path:
                for page in range(mapping.start, mapping.end, 4096):
                    memory.seek(page)
                    with contextlib.suppress(OSError):
                        found += memory.read(len(start)) == start
    return found

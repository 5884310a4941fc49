"""What is brought into a container for debugpy, and by how much its processes grow."""

import asyncio
import compileall
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import debugpy as package
import pytest

from agent import pack
from agent.debuggers.debugpy import Debugpy

from .pythons import NEWEST
from .targets import Debuggee, debuggee, session, target
from .visits import stop_at_price

PACKAGE = Path(package.__file__).parent
MOST = 16e6
"""Bytes by which a process may grow, the files in its container counted as its own."""
CONTAINER = """#!/bin/sh
exec unshare --mount sh -c '
  mount -t tmpfs -o mode=755 tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9
  exec "$0" "$@"' {python} "$@"
"""


def anonymous(pid: int) -> int:
    """Bytes of a process's own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Anonymous:")).split()[1]) * 1024


def brought(service: Debuggee) -> int:
    """Bytes of files that lie in its container's memory because of us."""
    place = service.facts().root / "dev/squash"
    return sum(file.lstat().st_blocks * 512 for file in place.rglob("*"))


@pytest.fixture
def container(short: Path) -> Iterator[Debuggee]:
    """The debuggee with a /dev of its own, in the place of a container."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a mount namespace like a container's")
    wrapper = short / "python"
    wrapper.write_text(CONTAINER.format(python=sys.executable))
    wrapper.chmod(0o755)
    with debuggee("select", str(wrapper)) as service:
        yield service


async def test_a_process_in_a_container_grows_little(container: Debuggee, short: Path) -> None:
    before = anonymous(container.pid)
    debugger = Debugpy()
    place = short / "ab12cd34"
    place.mkdir()
    for _turn in range(2):
        server = await debugger.attach(target(container.facts(), place))
        grown = anonymous(container.pid) - before + brought(container)
        assert grown < MOST
        async with session(debugger, server, short) as address:
            seen = await asyncio.to_thread(stop_at_price, address, container)
        assert seen["answer"] == {"price": 15}
        await server.detach()
        assert brought(container) == 0


def test_for_its_own_version_the_code_is_compiled_already() -> None:
    found = dict(pack.contents(PACKAGE, sys.version_info[1]))
    assert found[Path("__init__.py")] == b""
    data = found[Path(importlib.util.cache_from_source("__init__.py"))]
    assert data[:8] == importlib.util.MAGIC_NUMBER + b"\1\0\0\0"
    assert not [name for name in found if "winappdbg" in name.parts]


def test_for_an_unknown_version_there_are_sources() -> None:
    found = dict(pack.contents(PACKAGE, None))
    assert found[Path("__init__.py")] == (PACKAGE / "__init__.py").read_bytes()
    assert not [name for name in found if name.suffix == ".pyc" or "cpython-" in name.name]


@pytest.mark.skipif(not NEWEST.exists(), reason="no CPython 3.14: make build/python3.14/.done")
def test_another_version_is_compiled_by_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(NEWEST.parent), prepend=os.pathsep)
    found = dict(pack.contents(PACKAGE, 14))
    assert found[Path("__init__.py")] == b""
    assert found[Path("__pycache__/__init__.cpython-314.pyc")][4:8] == b"\1\0\0\0"


def test_an_interpreter_that_fails_is_tried_again_by_and_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that stands there under a wrong name, or too slow: what it made of it would not be understood."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("here = True\n")
    interpreter, minor = tmp_path / "bin/python3.99", 99
    calls = tmp_path / "calls"
    interpreter.write_text(f'#!/bin/sh\necho >> {calls}\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    sources = {Path("__init__.py"): b"here = True\n"}
    for _turn in range(2):
        assert not pack.compiled(tmp_path / "package", minor)
        assert dict(pack.contents(tmp_path / "package", minor)) == sources
    assert calls.read_text() == "\n", "not again at once"
    monkeypatch.setattr(pack, "_made", {key: (files, 0.0) for key, (files, _) in pack._made.items()})
    assert not pack.compiled(tmp_path / "package", minor)
    assert calls.read_text() == "\n\n"


def test_a_library_without_its_symbols_can_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "some.c").write_text("int answer(void) { return 42; }\n")
    subprocess.run(["gcc", "-g", "-shared", "-fPIC", "-o", "some.so", "some.c"], cwd=tmp_path, check=True)
    assert compileall.compile_dir(tmp_path, quiet=1)
    less = dict(pack.contents(tmp_path, None))[Path("some.so")]
    assert len(less) < (tmp_path / "some.so").stat().st_size
    (tmp_path / "less.so").write_bytes(less)
    code = "import ctypes, sys; sys.exit(ctypes.CDLL('./less.so').answer())"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 42

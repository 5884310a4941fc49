"""What a Python process needs of a package that lies in the agent's environment, as small as can be.

It is put into the process's container, where files are memory: without other systems' files and tests, and compiled,
with empty files in place of the sources. To compile it in the process would take some seconds and 60 MB. What this
environment has compiled is for its own version; for others an interpreter of that version is looked for on PATH, the
agent's: the container's own is nothing that the agent would execute.
"""

import importlib.util
import io
import shutil
import struct
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from squash.logs import Log

_NEEDLESS = frozenset(
    {"winappdbg", "tests", "run_pydevd_in_python", "launcher", "linux_and_mac", "windows", "__pycache__"}
)
_MODULES = (".py", ".so", ".json", ".txt")
LONGEST = 60.0
"""Seconds for another interpreter to compile the package."""
AGAIN = 300.0
"""Seconds after which an interpreter that could not is tried again: it may have been mended, or the machine busy."""
_made: dict[tuple[Path, str], tuple[Mapping[str, bytes], float]] = {}
"""By package and interpreter: what it compiled; or nothing, and until when (time.monotonic()) that stands."""
_turn = threading.Lock()
_log = Log("pack")
_UNCHECKED = 1
"""Flag of a .pyc that is taken as it is, whatever became of its source (PEP 552)."""


def contents(package: Path, minor: int | None) -> Iterator[tuple[Path, bytes]]:
    """Names within the package and what is in them, for CPython 3.`minor`; None: for any.

    What takes long, compiling, is done when this returns; a file is read when it is asked for.
    """
    own = minor == sys.version_info[1]
    foreign = {} if own or minor is None else _compiled_elsewhere(package, minor)
    return _contents(package, minor, foreign, own=own)


def _contents(
    package: Path, minor: int | None, foreign: Mapping[str, bytes], *, own: bool
) -> Iterator[tuple[Path, bytes]]:
    for file in sorted(package.rglob("*")):
        name = file.relative_to(package)
        if file.suffix not in _MODULES or _NEEDLESS & set(name.parts):
            continue
        if file.suffix == ".so":
            if own or "cpython-" not in file.name:
                yield name, _stripped(file.read_bytes())
        elif own and file.suffix == ".py" and (compiled := _compiled(file)):
            yield name, b""
            yield Path(importlib.util.cache_from_source(str(name))), compiled
        elif compiled := foreign.get(str(name), b""):
            yield name, b""
            yield name.parent / "__pycache__" / f"{name.stem}.cpython-3{minor}.pyc", compiled
        else:
            yield name, file.read_bytes()


def compiled(package: Path, minor: int | None) -> bool:
    """Whether `contents` are compiled: has that done, which may take seconds."""
    if minor == sys.version_info[1]:
        return lies_compiled(package, minor)
    return minor is not None and bool(_compiled_elsewhere(package, minor))


def lies_compiled(package: Path, minor: int | None) -> bool:
    """Whether a process that imports the package itself finds compiled code."""
    if minor == sys.version_info[1]:
        return bool(_compiled(package / "__init__.py"))
    return (package / "__pycache__" / f"__init__.cpython-3{minor}.pyc").exists()


def _compiled_elsewhere(package: Path, minor: int) -> Mapping[str, bytes]:
    """Compiled code by the name of its source; empty when nobody can make it. Some seconds, once."""
    interpreter = shutil.which(f"python3.{minor}")
    if interpreter is None:
        return {}
    # Who needs it meanwhile waits, and is not the second to make it.
    with _turn:
        files, until = _made.get((package, interpreter), ({}, 0.0))
        if not files and time.monotonic() >= until:
            files = _compile(package, minor, interpreter)
            _made[package, interpreter] = files, time.monotonic() + AGAIN
        return files


def _compile(package: Path, minor: int, interpreter: str) -> Mapping[str, bytes]:
    argv = [interpreter, "-I", "-W", "ignore", "-c", _COMPILE, str(package), str(minor)]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=LONGEST)
        with zipfile.ZipFile(io.BytesIO(done.stdout)) as made:
            return {name: made.read(name) for name in made.namelist()}
    except (OSError, subprocess.SubprocessError, zipfile.BadZipFile) as error:
        _log.warning("debugpy could not be compiled", interpreter=interpreter, error=str(error))
        return {}


_COMPILE = """
import importlib.util, io, marshal, os, struct, sys, zipfile
if sys.version_info[:2] != (3, int(sys.argv[2])):
    sys.exit(1)
made = io.BytesIO()
with zipfile.ZipFile(made, "w") as files:
    for directory, _, names in os.walk(sys.argv[1]):
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith(".py") and not {'winappdbg', 'tests'} & set(path.split(os.sep)):
                with open(path, "rb") as file:
                    try:
                        code = compile(file.read(), path, "exec", dont_inherit=True)
                    except SyntaxError:
                        continue
                data = importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + bytes(8) + marshal.dumps(code)
                files.writestr(os.path.relpath(path, sys.argv[1]), data)
sys.stdout.buffer.write(made.getvalue())
"""


def _compiled(source: Path) -> bytes:
    """The code that this environment has compiled of it, to be taken as it is; empty when there is none."""
    try:
        data = Path(importlib.util.cache_from_source(str(source))).read_bytes()
    except OSError:
        return b""
    if data[:4] != importlib.util.MAGIC_NUMBER:
        return b""
    return data[:4] + struct.pack("<I", _UNCHECKED) + bytes(8) + data[16:]


def _stripped(data: bytes) -> bytes:
    """A library without what is not loaded: symbols for debuggers stand behind all segments (elf(5))."""
    if data[:5] != b"\x7fELF\x02":
        return data
    (table,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    segments = [struct.unpack_from("<IIQQQQQQ", data, table + index * size) for index in range(count)]
    end = max(offset + in_file for _, _, offset, _, _, in_file, _, _ in segments)
    # No sections are left: e_shoff, and e_shnum with e_shstrndx.
    return data[:40] + bytes(8) + data[48:60] + bytes(4) + data[64:end]

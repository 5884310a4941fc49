"""CPython's own way in, of 3.14 and newer (PEP 768): a script that a thread executes at its next safe point.

The interpreter says at the beginning of `_PyRuntime` where its parts lie; who may write to the process's memory names
a script and asks the thread to stop for it. Nothing is stopped, no thread is led astray. `sys.remote_exec` does the
same, but only from an interpreter of the same version.
"""

import os
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.elf import NotElfError, dynamic_symbols
from agent.inject import Mapping, mappings, started, switches

COOKIE = b"xdebugpy"
RUNTIME = "_PyRuntime"
KNOWN = 0x030E
"""Major and minor version whose table is laid out as below."""
_TABLE = struct.Struct("<8s94Q")
_VERSION, _HEAD, _MAIN, _NATIVE, _BREAKER = 1, 5, 10, 28, 89
"""Places in the table; from _BREAKER on: the breaker, the support, enabled, pending, path, size of the path."""
PLEASE_STOP = 1 << 5
"""Bit of the breaker, in its lowest byte, that has the thread look whether it is to execute a script."""
AWAKE = 0.03
"""Seconds in which a thread that works gives a sign of it."""


class NotNowError(Exception):
    """This process cannot be entered so, or not now; says why."""


@dataclass(frozen=True)
class Support:
    """Where a thread looks for a script to execute."""

    breaker: int
    pending: int
    path: int
    size: int


@contextmanager
def asked(pid: int, start_time: int, script: str) -> Iterator[None]:
    """The main thread is asked to execute the script; the wish is taken back at the end, if it has not by then.

    Raises NotNowError, OSError.
    """
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        # The memory stays that of the process which had the number when it was opened.
        if started(pid) != start_time:
            raise NotNowError("it has ended, and its number is another's")
        support = _support(pid, memory)
        path = os.fsencode(script) + b"\0"
        if len(path) > support.size:
            raise NotNowError(f"the script's path is longer than {support.size} bytes")
        if asleep(pid):
            raise NotNowError("its main thread sleeps, and would not look before it wakes up")
        os.pwrite(memory, path, support.path)
        os.pwrite(memory, struct.pack("<i", 1), support.pending)
        # One byte: what stands above it belongs to the interpreter's instrumentation.
        (events,) = os.pread(memory, 1, support.breaker)
        os.pwrite(memory, bytes([events | PLEASE_STOP]), support.breaker)
        try:
            yield
        finally:
            if _runs_on(pid):
                os.pwrite(memory, struct.pack("<i", 0), support.pending)
    finally:
        os.close(memory)


def _support(pid: int, memory: int) -> Support:
    table = _table(pid, memory)
    version = table[_VERSION] >> 16
    if version != KNOWN:
        raise NotNowError(f"how CPython {version >> 8}.{version & 255} is laid out is not known here")
    breaker, support, enabled, pending, path, size = table[_BREAKER : _BREAKER + 6]
    interpreter = _pointer(memory, table[_HEAD] + table[0])
    if not struct.unpack("<i", os.pread(memory, 4, interpreter + enabled))[0]:
        raise NotNowError("it was started with PYTHON_DISABLE_REMOTE_DEBUG or -X disable-remote-debug")
    thread = _pointer(memory, interpreter + table[_MAIN])
    if _pointer(memory, thread + table[_NATIVE]) != pid:
        raise NotNowError("its main thread is not where the interpreter says")
    return Support(thread + breaker, thread + support + pending, thread + support + path, size)


def _table(pid: int, memory: int) -> tuple[int, ...]:
    """The table; in place of the cookie the address of the runtime."""
    maps = mappings(pid)
    exe = os.readlink(f"/proc/{pid}/exe")
    for path in [exe, *dict.fromkeys(mapping.path for mapping in maps if "/libpython" in mapping.path)]:
        runtime = _runtime(pid, path, exe, maps)
        if runtime and os.pread(memory, 8, runtime) == COOKIE:
            return runtime, *_TABLE.unpack(os.pread(memory, _TABLE.size, runtime))[1:]
    raise NotNowError("CPython has this way in from version 3.14 on")


def _runtime(pid: int, path: str, exe: str, maps: list[Mapping]) -> int:
    """Its address, 0 when it is not in this file."""
    file = Path(f"/proc/{pid}/exe") if path == exe else Path(f"/proc/{pid}/root{path}")
    try:
        symbols = dynamic_symbols(file, frozenset({RUNTIME}))
    except (NotElfError, OSError):
        return 0
    base = min(mapping.start for mapping in maps if mapping.path == path) if symbols.relocatable else 0
    return base + symbols.addresses[RUNTIME] if RUNTIME in symbols.addresses else 0


def _pointer(memory: int, address: int) -> int:
    found: int = struct.unpack("<Q", os.pread(memory, 8, address))[0]
    return found


def asleep(pid: int) -> bool:
    """Whether the main thread neither runs nor wakes up for a while."""
    before, until = switches(pid), time.monotonic() + AWAKE
    while time.monotonic() < until:
        if _runs(pid) or switches(pid) != before:
            return False
        time.sleep(0.002)  # the kernel tells nobody when a thread wakes up
    return True


def _runs(pid: int) -> bool:
    return _state(pid) == "R"


def _runs_on(pid: int) -> bool:
    return _state(pid) not in "ZX"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"

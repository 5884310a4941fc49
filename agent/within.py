"""Work that may never return, such as looking at a file whose machine does not answer, where there is no event loop.

It is done in a process of its own: not every file system lets go of who waits for it, not even to be killed, and who
has a thread there cannot end. Only where there are several threads already, as in the agent, it is one more of those.
(`agent.aside` is for who has an event loop.) Imports nothing that takes time to load: guards run this.
"""

import _thread
import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

WHOLE = "."
"""The last line of work that has come to its end."""


def within(seconds: float, work: Callable[[], Iterable[str]]) -> tuple[list[str], bool]:
    """The words that it has yielded by then, each without an end of a line, and whether these are all."""
    found = (_beside if _threads() > 1 else _apart)(seconds, work)
    return [word for word in found if word != WHOLE], WHOLE in found


def _threads() -> int:
    with os.scandir("/proc/self/task") as entries:
        return sum(1 for _ in entries)


def _beside(seconds: float, work: Callable[[], Iterable[str]]) -> list[str]:
    """In a thread, which is left to itself when the time is over."""
    found: list[str] = []
    over = _thread.allocate_lock()
    over.acquire()

    def run() -> None:
        try:
            found.extend(work())
            found.append(WHOLE)
        finally:
            over.release()

    _thread.start_new_thread(run, ())
    over.acquire(timeout=seconds)
    return list(found)


def _apart(seconds: float, work: Callable[[], Iterable[str]]) -> list[str]:
    """In a process, which is killed when the time is over, whenever that takes effect."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _tell(writer, work)
    os.close(writer)
    try:
        said = _hear(reader, time.monotonic() + seconds)
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(child, os.WNOHANG)
    # What comes after the last end of a line is cut off.
    return said.decode().split("\n")[:-1]


def _tell(writer: int, work: Callable[[], Iterable[str]]) -> None:
    """Never returns."""
    try:
        # Whoever waits for our parent's end, or for that of what it says, must not wait for us.
        os.closerange(0, writer)
        os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
        for word in work():
            os.write(writer, f"{word}\n".encode())
        os.write(writer, f"{WHOLE}\n".encode())
    finally:
        os._exit(0)


def _hear(reader: int, deadline: float) -> bytes:
    said, poll = b"", select.poll()
    poll.register(reader, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0 and poll.poll(left * 1000):
        data = os.read(reader, 65_536)
        if not data:
            break
        said += data
    return said

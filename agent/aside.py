"""Work that may never return, such as looking at a container's file system: in a thread that nobody needs again.

The threads of `asyncio.to_thread` are few, and detaches take them: work that hangs there would keep debuggers in.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from squash.errors import SquashError
from squash.reasons import Reason

T = TypeVar("T")
MOST = 64
"""Threads at once, each of which hangs or soon ends."""
_running: set[threading.Thread] = set()


async def aside(work: Callable[[], T], name: str) -> T:
    """What `work` returns or raises; who is cancelled meanwhile leaves the thread to itself. Raises SquashError."""
    _running.intersection_update(threading.enumerate())
    if len(_running) >= MOST:
        message = f"{name}: {MOST} others hang already, as the file system of a container does that is out of reach"
        raise SquashError(Reason.ATTACH_FAILED, message)
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            found = work()
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            done.set_exception(error)
        else:
            done.set_result(found)

    # The agent's end does not wait for it, either.
    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    _running.add(thread)
    return await asyncio.wrap_future(done)

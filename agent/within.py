"""Work that may never return, such as looking at a file whose machine does not answer, where there is no event loop.

The thread that does it is left to itself then, and ends with the process. (`agent.aside` is for where there is one.)
Imports nothing that takes time to load: guards run this.
"""

import _thread
from collections.abc import Callable


def within(seconds: float, work: Callable[[], None]) -> bool:
    """Does it; whether it has ended by then."""
    over = _thread.allocate_lock()
    over.acquire()

    def run() -> None:
        try:
            work()
        finally:
            over.release()

    try:
        _thread.start_new_thread(run, ())
    except RuntimeError:  # no more threads are allowed here; the work matters more
        work()
        return True
    return over.acquire(timeout=seconds)

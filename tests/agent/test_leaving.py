"""What runs in the process when a debugger leaves it, while its threads do as they like."""

import runpy
import threading
import weakref
from collections.abc import Iterator
from typing import Any

from agent.debuggers.debugpy import INSIDE


class Entering(weakref.WeakValueDictionary[int, Any]):
    """Whenever somebody has been given one thread of it, another one enters itself."""

    def values(self) -> Iterator[Any]:  # type: ignore[override]
        for number, thread in enumerate(super().values()):
            yield thread
            self[-1 - number] = thread


def test_threads_may_enter_themselves_meanwhile() -> None:
    leaving = runpy.run_path(str(next(path for path in INSIDE if path.name == "leaving.py")))
    threads = [threading.Thread() for _ in range(5)]
    table = Entering(enumerate(threads))
    assert leaving["seen"](table) == threads

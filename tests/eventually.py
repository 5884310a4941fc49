"""For facts that tell nobody when they change, like those of /proc."""

import time
from collections.abc import Callable
from typing import TypeVar

from tests.slowness import SLOWNESS

T = TypeVar("T")


def eventually(look: Callable[[], T], good: Callable[[T], bool] = bool, limit: float = 30.0) -> T:
    """What `look` sees as soon as it is good, or at last after `limit` seconds."""
    deadline = time.monotonic() + limit * SLOWNESS
    while not good(found := look()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found

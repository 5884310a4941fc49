"""Background tasks that are named, kept until they end, and never fail silently."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from squash.logs import Log

T = TypeVar("T")
_kept: set[asyncio.Task[Any]] = set()
_log = Log("tasks")


def spawn(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
    """Runs `work` in the background. Where a TaskGroup fits, use that instead."""
    task = asyncio.create_task(work, name=name)
    _kept.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Any]) -> None:
    _kept.discard(task)
    if not task.cancelled() and (error := task.exception()):
        _log.error("task failed", task=task.get_name(), exc=error)

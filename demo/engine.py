"""A Docker engine of one's own: data, state, socket and pid file are all in one directory, off the usual places."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from demo.world import ROOT


class EngineError(Exception):
    """The engine did not start, or could not be cleared away; the message tells why."""


@contextlib.contextmanager
def running(base: Path) -> Iterator[str]:
    """Where an engine below `base` answers, like unix:///…; nothing of it is left afterwards, also when we are killed.

    `base` is an empty directory with a short path. Containers reach each other and the host, and nothing else. Takes
    root. Raises EngineError.
    """
    # A session of its own: Ctrl-C is for whoever uses the engine, and who then still needs it to clean up.
    keeper = subprocess.Popen(
        [sys.executable, "-m", "demo.keeper", str(base)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True,
    )  # fmt: skip
    with keeper:
        assert keeper.stdin is not None and keeper.stdout is not None  # noqa: S101, PT018 - asked for above
        said = json.loads(keeper.stdout.readline() or "{}")
        if "host" in said:
            try:
                yield said["host"]
            finally:
                # It ends the engine when the pipe to it is closed, as it is when we die.
                keeper.stdin.close()
                said = json.loads(keeper.stdout.readline() or "{}")
    if keeper.returncode:
        raise EngineError(said.get("error", f"its keeper ended with status {keeper.returncode}"))

"""Ends processes and removes directories when whoever started them is gone, however it went.

Reads lines from stdin: `process STAGE PID START_TIME` and `directory PATH`. At the end of input, which comes when
the other end of the pipe is closed or its owner dies, it ends the processes, highest stage first; then whatever else
bears one of the directories in its environment (MARK); and removes the directories. Ctrl-C in the terminal does not
reach it: it has a session of its own.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterable

from squash import procfs

MARK = "SQUASH_WORLD"
"""Environment variable of everything that a world starts, and of what that starts in turn: the world's directory."""
PATIENCE = 10.0
"""Seconds between SIGTERM and SIGKILL: an agent needs a moment to take its debuggers out."""


def end(processes: Iterable[tuple[int, int]], patience: float = PATIENCE) -> list[int]:
    """Ends processes given by pid and start time; returns the pids that had to be killed."""
    handles = {}
    for pid, start_time in processes:
        with contextlib.suppress(ProcessLookupError):
            handle = procfs.handle(pid)
            if procfs.alive(pid, start_time):
                handles[handle] = pid
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                signal.pidfd_send_signal(handle, signal.SIGCONT)
            else:
                os.close(handle)
    killed = []
    deadline = time.monotonic() + patience
    for handle, pid in handles.items():
        if not select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [])
                killed.append(pid)
        os.close(handle)
    return killed


def marked(directories: Iterable[str]) -> list[tuple[int, int]]:
    """Pid and start time of the processes that were started for one of these worlds, or by something that was."""
    wanted = set(directories)
    found = (procfs.stat(pid) for pid in procfs.pids() if (procfs.environ(pid) or {}).get(MARK) in wanted)
    return [(stat.pid, stat.start_time) for stat in found if stat and stat.state not in "ZX"]


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    stages: dict[int, list[tuple[int, int]]] = {}
    directories = []
    for line in sys.stdin:
        kind, rest = line.rstrip("\n").split(" ", 1)
        if kind == "process":
            stage, pid, start_time = map(int, rest.split())
            stages.setdefault(stage, []).append((pid, start_time))
        else:
            directories.append(rest)
    for _, processes in sorted(stages.items(), reverse=True):
        for pid in end(processes):
            sys.stderr.write(f"process {pid} did not end when asked and was killed\n")
    # Clients, debuggers' helpers, and what was started so late that nobody could tell us of it.
    while left := marked(directories):
        end(left)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()

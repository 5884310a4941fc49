"""What a guard asks of a process before all else (proc_pid_stat(5)). Imports os alone: a debugger waits for it."""

import os

STATE, START_TIME = 0, 19
"""Places in what `fields` returns."""


def fields(path: str) -> list[str]:
    """The fields of a stat file from the state on; empty when the process is gone."""
    try:
        with open(path, errors="replace") as file:
            text = file.read()
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()


def states(pid: int) -> list[str]:
    """The state of each thread that there is."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    stats = (fields(f"/proc/{pid}/task/{thread}/stat") for thread in threads)
    return [found[STATE] for found in stats if found]


def stopped(pid: int) -> bool:
    """Whether a stop signal has stopped the process (state T; a tracer's stop is another one)."""
    return "T" in states(pid)

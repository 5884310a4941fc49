"""Injectors that are killed at work: `killed PID SOURCE`, and orders on stdin.

`step N` kills one just before the Nth thing that it does to the process, `after SECONDS` at that time, `none` not at
all. Each injector is a process of its own, forked from this one. Says for each `killed` or `done`, or what it refused.
"""

import json
import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent import inject, machines, ptrace


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])


def counting(last: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes functions that die just before the step of that number, whichever of them takes it."""
    steps = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)

        return step

    return counted


def injector(pid: int, source: str, step: int, said: int) -> None:
    counted = counting(step)
    ptrace._ptrace = counted(ptrace._ptrace)
    ptrace.Stopped.write = counted(ptrace.Stopped.write)  # type: ignore[method-assign]  # what is counted
    ptrace.Stopped._wait = counted(ptrace.Stopped._wait)  # type: ignore[method-assign]
    try:
        result = inject.inject(pid, start_time(pid), source)
    except machines.RefusedError as refusal:
        result = {"refused": str(refusal)}
    os.write(said, json.dumps(result).encode())


def play(pid: int, source: str, step: int, after: float | None) -> str:
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        injector(pid, source, step, theirs)
        os._exit(0)
    os.close(theirs)
    if after is not None:
        handle = os.pidfd_open(child)
        select.select([handle], [], [], after)
        os.close(handle)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    said = os.read(ours, 65_536).decode()
    os.close(ours)
    return "killed" if os.WIFSIGNALED(status) else said or "died"


def main() -> None:
    pid, source = int(sys.argv[1]), sys.argv[2]
    for line in sys.stdin:
        how, _, value = line.strip().partition(" ")
        step = int(value) if how == "step" else 0
        after = float(value) if how == "after" else None
        sys.stdout.write(play(pid, source, step, after) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

"""What a debugger leaves behind in a Python process: how fast that runs afterwards, and by how much it has grown."""

import json
import os
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import spinner
from bench.measure import BenchError, Effort, Measurement, Tell, middle
from demo.dap import Dap
from demo.telling import line_of
from demo.world import Child, World
from squash.client import Client, create_attachment, delete_attachment, get_attachment
from squash.model import AttachmentSpec, DebugAttachment, State

LIMIT = 60.0
"""Seconds for whatever is waited for."""
SPINS = 7
"""Requests of which the fastest counts: what slows one down is another process."""
SPINNER = Path(spinner.__file__)
BREAK = "the bench breaks here"
CONTAINED = (
    "mount -t tmpfs -o mode=755 tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 && "
    'exec "$0" "$@"'
)
"""Gives a process a /dev of its own, as a container has: there the agent puts files, which are memory."""


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    ratios, grown = [], []
    with World("squash-bench-python") as world:
        world.coordinator()
        world.agent()
        with world.client() as client:
            for turn in range(max(effort.rounds, 3)):
                tell(f"Python, turn {turn + 1}")
                ratios.append(_after_over_before(world, client))
                if os.geteuid() == 0:
                    grown.append(_grown(world, client))
    yield middle("python.after_detach_ratio", "", ratios)
    if grown:
        yield middle("attach.debugpy_added_mb", "MB", grown)


def _after_over_before(world: World, client: Client) -> float:
    service = world.service("spinner", "bench/spinner", [sys.executable, str(SPINNER)])
    try:
        before = _fastest(service)
        attachment = _attach(world, client)
        with ThreadPoolExecutor(1) as asking, Dap(attachment.status.debug_server_address or "", LIMIT) as editor:
            editor.attach({str(SPINNER): [line_of(SPINNER, BREAK)]})
            asked = asking.submit(_spin, service)
            stopped = editor.event("stopped")
            editor.send("continue", threadId=stopped["threadId"])
            asked.result(LIMIT)
            editor.ask("disconnect")
        _detach(world, client, attachment)
        return _fastest(service) / before
    finally:
        service.kill()


def _grown(world: World, client: Client) -> float:
    """MB (10⁶ bytes) of the process's own memory and of files in its /dev, while a debugger waits for its client."""
    argv = ["unshare", "--mount", "sh", "-c", CONTAINED, sys.executable, str(SPINNER)]
    service = world.service("spinner", "bench/spinner", argv)
    try:
        _spin(service)
        before = _anonymous(service.pid)
        attachment = _attach(world, client)
        files = Path(f"/proc/{service.pid}/root/dev/squash").rglob("*")
        grown = _anonymous(service.pid) - before + sum(file.lstat().st_blocks * 512 for file in files)
        _detach(world, client, attachment)
        return grown / 1e6
    finally:
        service.kill()


def _attach(world: World, client: Client) -> DebugAttachment:
    place = {"pod": "spinner", "namespace": world.namespace}
    made = client.send(create_attachment(DebugAttachment(spec=AttachmentSpec(attachment=place, debugger="debugpy"))))
    found = client.send(get_attachment(made.name, wait=LIMIT))
    if found.status.state is not State.ATTACHED:
        raise BenchError(f"spinner: {found.status.reason}: {found.status.message}")
    return found


def _detach(world: World, client: Client, attachment: DebugAttachment) -> None:
    """Returns when the agent has cleared up behind it, which nobody is told."""
    client.send(delete_attachment(attachment.name))
    deadline = time.monotonic() + LIMIT
    while any((world.directory / "agent" / "target").iterdir()):
        if time.monotonic() > deadline:
            raise BenchError(f"the debugger is still there after {LIMIT:g} s")
        time.sleep(0.01)


def _fastest(service: Child) -> float:
    return min(_spin(service) for _ in range(SPINS))


def _spin(service: Child) -> float:
    """Seconds of processor time."""
    with urllib.request.urlopen(service.where, timeout=LIMIT) as answer:  # noqa: S310 - our own service
        found: float = json.load(answer)["seconds"]
        return found


def _anonymous(pid: int) -> int:
    """Bytes of memory that are the process's own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Anonymous:")).split()[1]) * 1024

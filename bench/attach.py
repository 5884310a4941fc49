"""From a marked request to `attached`, against the stock debugger alone on the same kind of process, in turn."""

import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench import floors
from bench.measure import BenchError, Effort, Measurement, Tell, middle
from demo.caller import Request
from demo.shop import PRICING, SERVICES, STOCK_PROGRAM
from demo.world import ROOT, Child, World
from squash.client import Client, create_request, delete_attachment, get_attachment, get_request
from squash.model import DebugAttachment, DebugRequest, HoldUntil, Outcome, RequestSpec, State
from squash.procfs import status

LEAST_TURNS = 5
LIMIT = 30.0
"""Seconds for whatever is waited for."""
LEDGER = SERVICES / "Ledger.java"
PROMOTION = SERVICES / "promotion.js"
GOPHER = ROOT / "build/delve/service"
ALONE = "bench-floor"
"""The pod of the processes that the stock tools attach to."""


@dataclass(frozen=True)
class Attached:
    """`whole` and what the coordinator's stamps say of its parts, in milliseconds."""

    attachment: DebugAttachment
    whole: float
    until_created: float
    until_claimed: float
    answered: float
    """Until the caller had its answer."""


class Pod:
    """A service behind Envoy and sidecar. The service is a fresh process for each turn, on the same port."""

    def __init__(self, world: World, name: str, argv: Sequence[str], path: str) -> None:
        self._world = world
        self._argv = list(argv)
        self.name = name
        self.path = path
        self.image = f"demo/{name}"
        self.service = world.service(name, self.image, [*argv, "--listen", "127.0.0.1:0"])
        self._listen = self.service.where.removeprefix("http://")
        self._envoy = world.envoy(name, self.service.where, world.sidecar(name).where)

    def renew(self) -> None:
        self.service.stop()
        self.service = self._world.service(self.name, self.image, [*self._argv, "--listen", self._listen])

    def alone(self) -> Child:
        """Another process of the same program, that nobody calls."""
        return self._world.service(ALONE, self.image, [*self._argv, "--listen", "127.0.0.1:0"])

    def attach(self, client: Client) -> Attached:
        """Sends a marked request that a debug request waits for, which goes on as soon as the debugger is attached."""
        spec = RequestSpec(image=self.image, debugger="", hold_until=HoldUntil.ATTACHED)
        wish = client.send(create_request(DebugRequest(spec=spec)))
        begun = time.time()
        request = Request(f"{self._envoy.where}{self.path}", marked=True)
        matched = client.send(get_request(wish.name, wait=LIMIT))
        attachment = client.send(get_attachment(matched.status.debug_attachment_ref or "", wait=LIMIT))
        if attachment.status.state is not State.ATTACHED:
            raise BenchError(f"{self.name}: {attachment.status.reason}: {attachment.status.message}")
        answer = request.answer(LIMIT)
        if answer.result is None or answer.result.outcome is not Outcome.ATTACHED:
            raise BenchError(f"{self.name}: the marked request came back with {answer.result}")
        stamps = attachment.status.times or {}
        created, claimed, whole = ((stamps[name] - begun) * 1000 for name in ("none", "attaching", "attached"))
        return Attached(attachment, whole, created, claimed, answer.seconds * 1000)

    def detach(self, client: Client, attached: Attached) -> None:
        client.send(delete_attachment(attached.attachment.name))


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    turns = max(effort.rounds, LEAST_TURNS)
    with World("squash-bench-attach") as world:
        world.coordinator()
        world.agent()
        pricing = Pod(world, "pricing", [sys.executable, str(PRICING)], "/price?items=apple:1")
        stock = Pod(world, "stock", [str(STOCK_PROGRAM)], "/stock?items=apple:1")
        with world.client() as client, floors.no_adapters(ALONE, world.namespace):
            yield from _debugpy(client, pricing, turns, tell)
            yield from _gdb(client, stock, turns, tell)
            yield from _delve(client, world, turns, tell)
            yield from _java(client, world, turns, tell)
            yield from _node(client, world, turns, tell)


def _debugpy(client: Client, pod: Pod, turns: int, tell: Tell) -> Iterator[Measurement]:
    ours, floor = [], []
    for turn in _turns(turns, "debugpy", tell):
        attached = _attached(client, pod)
        alone = _floor(pod, floors.debugpy)
        if turn:
            ours.append(attached)
            floor.append(alone)
    yield _whole("attach.debugpy_ms", ours)
    yield middle("attach.debugpy_floor_ms", "ms", floor)


def _gdb(client: Client, pod: Pod, turns: int, tell: Tell) -> Iterator[Measurement]:
    ours, connect, floor, with_break = [], [], [], []
    for turn in _turns(turns, "gdb", tell):
        pod.renew()
        attached = pod.attach(client)
        connected = _connect(attached.attachment)
        _free(pod.service.pid)
        pod.detach(client, attached)
        alone, broken = _floor(pod, floors.gdbserver), _floor(pod, floors.gdb)
        if turn:
            ours.append(attached)
            connect.append(connected)
            floor.append(alone)
            with_break.append(broken)
    yield _whole("attach.gdb_ms", ours)
    yield middle("attach.gdb_connect_ms", "ms", connect)
    ready = [one.whole - one.until_claimed + after for one, after in zip(ours, connect, strict=True)]
    yield middle("attach.gdb_ready_ms", "ms", ready)
    yield middle("attach.gdb_floor_ms", "ms", floor)
    yield middle("attach.gdb_break_floor_ms", "ms", with_break)


def _java(client: Client, world: World, turns: int, tell: Tell) -> Iterator[Measurement]:
    subprocess.run(["javac", "-g", "-d", world.directory, LEDGER], check=True)
    ways = [("attach.jdwp", "address=127.0.0.1:0", floors.jdwp)]
    if floors.jdwp_sleeps():
        ways.append(("attach.jdwp_woken", "onjcmd=y,address=127.0.0.1:0", floors.jdwp_woken))
    for key, more, tool in ways:
        options = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,quiet=y,{more}"
        argv = ["java", options, "-cp", str(world.directory), "Ledger"]
        pod = Pod(world, key.replace(".", "-"), argv, "/order?number=1001")
        ours, floor = [], []
        for turn in _turns(turns, key, tell):
            pod.renew()
            attached = pod.attach(client)
            address = (attached.attachment.status.debug_server_address or "").removeprefix("unix:")
            asked = floors.jdwp_answer(socket.AF_UNIX, address) * 1000
            pod.detach(client, attached)
            alone = _floor(pod, tool)
            if turn:
                ours.append(attached.whole - attached.until_claimed + asked)
                floor.append(alone)
        yield middle(f"{key}_ms", "ms", ours)
        yield middle(f"{key}_floor_ms", "ms", floor)


def _node(client: Client, world: World, turns: int, tell: Tell) -> Iterator[Measurement]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pod = Pod(world, "promotion", ["node", f"--inspect-port={port}", str(PROMOTION)], "/gift?points=1")
    ours, floor = [], []
    for turn in _turns(turns, "node", tell):
        pod.renew()
        attached = pod.attach(client)
        address = (attached.attachment.status.debug_server_address or "").removeprefix("unix:")
        asked = floors.inspector_breakpoint(socket.AF_UNIX, address) * 1000
        pod.detach(client, attached)
        alone = _floor(pod, lambda target: floors.node(target, port))
        if turn:
            ours.append(attached.whole - attached.until_claimed + asked)
            floor.append(alone)
    yield middle("attach.node_ms", "ms", ours)
    yield middle("attach.node_floor_ms", "ms", floor)


def _delve(client: Client, world: World, turns: int, tell: Tell) -> Iterator[Measurement]:
    pod = Pod(world, "gopher", [str(GOPHER)], "/price?amount=2")
    ours, connect, floor = [], [], []
    for turn in _turns(turns, "delve", tell):
        pod.renew()
        attached = pod.attach(client)
        address = (attached.attachment.status.debug_server_address or "").removeprefix("unix:")
        asked = floors.delve_breakpoint(socket.AF_UNIX, address) * 1000
        _free(pod.service.pid)
        pod.detach(client, attached)
        alone = _floor(pod, floors.delve)
        if turn:
            ours.append(attached.whole - attached.until_claimed + asked)
            connect.append(asked)
            floor.append(alone)
    yield middle("attach.delve_ms", "ms", ours)
    yield middle("attach.delve_connect_ms", "ms", connect)
    yield middle("attach.delve_floor_ms", "ms", floor)


def _turns(number: int, name: str, tell: Tell) -> Iterator[int]:
    """Turn 0 warms up: what is read from disk for the first time counts for nobody."""
    for turn in range(number + 1):
        tell(f"{name}, {f'turn {turn} of {number}' if turn else 'warming up'}")
        yield turn


def _attached(client: Client, pod: Pod) -> Attached:
    pod.renew()
    attached = pod.attach(client)
    pod.detach(client, attached)
    return attached


def _floor(pod: Pod, tool: Callable[[Child], float]) -> float:
    """Milliseconds; on a process that has seen no debugger yet."""
    target = pod.alone()
    try:
        return tool(target) * 1000
    finally:
        target.kill()


def _connect(attachment: DebugAttachment) -> float:
    """Milliseconds from a client's connect to the debug server until gdbserver's first answer."""
    address = attachment.status.debug_server_address or ""
    with socket.socket(socket.AF_UNIX) as client:
        begun = time.monotonic()
        client.connect(address.removeprefix("unix:"))
        client.sendall(floors.QUERY)
        floors.first_answer(client.fileno())
        return (time.monotonic() - begun) * 1000


def _free(pid: int) -> None:
    """Waits until nobody traces the process, once its client has left; the kernel tells nobody when."""
    deadline = time.monotonic() + LIMIT
    while (status(pid) or {}).get("TracerPid", "0") != "0":
        if time.monotonic() > deadline:
            raise BenchError(f"process {pid} is still traced after {LIMIT:g} s")
        time.sleep(0.01)


def _whole(key: str, found: Sequence[Attached]) -> Measurement:
    parts = {
        name: statistics.median(getattr(one, name) for one in found)
        for name in ("until_created", "until_claimed", "answered")
    }
    return middle(key, "ms", [one.whole for one in found], medians_ms=parts)

"""What the way through `squashctl connect`, coordinator and agent costs, compared with a plain TCP relay, in turn."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median

from bench import cores, double, talker
from bench.measure import BenchError, Effort, Measurement, Tell, middle
from demo.world import BIN, ROOT, Child, World
from squash.calls import create_attachment, delete_attachment
from squash.model import AttachmentSpec, DebugAttachment
from squash.options import Address

LIMIT = 60.0
AHEAD = 16
"""Answers that are asked for before the first has come: enough to fill the longer way, too."""
ROUND_TRIPS = 300
WARM_UP = 0.3
"""Seconds."""
OTHERS = 0.25
"""Cores' worth of time that other programs may take for a run to count."""
LEAST = 5
"""Undisturbed pairs without which there is no figure."""
_CHUNK = 262_144


@dataclass(frozen=True)
class Kind:
    """What is said: `number` of the talker's answers in its protocol."""

    key: str
    debugger: str
    number: int
    request: Callable[[int], bytes]
    answer: Callable[[int], bytes]

    def begin(self, client: socket.socket) -> None:
        """Says what the debugging begins with."""
        if self.request is talker.dap_request:
            client.sendall(talker.DAP_DONE)
            _take(client, len(talker.dap_done()))


GDB = Kind("gdb", "bench-gdb", 1, talker.gdb_request, talker.gdb_answer)
DAP = Kind("dap", "bench-dap", 4, talker.dap_request, talker.dap_answer)
SIZES = [
    Kind(key, "bench-dap", number, talker.dap_request, talker.dap_answer)
    for key, number in {"dap_1k": 1, "dap_20k": 2, "dap_1m": 3}.items()
]


@dataclass(frozen=True)
class Run:
    """MB per second, and the cores' worth of time that others had meanwhile."""

    rate: float
    others: float


@dataclass(frozen=True)
class Pair:
    """Two runs right after each other."""

    ours: Run
    plain: Run

    @property
    def calm(self) -> bool:
        return max(self.ours.others, self.plain.others) <= OTHERS


class Way:
    """The whole way, and the one it is compared with."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.talker = world.service("bench", "bench/talker", [sys.executable, "-m", "bench.talker"])
        self.relay = world.start("relay", [sys.executable, "-m", "bench.relay", self.talker.where], stage=2)
        self.coordinator = world.coordinator()
        self.agent = self._agent()

    def _agent(self) -> Child:
        plugins = self._world.directory / "plugins"
        double.install(plugins)
        argv = [str(BIN / "squash-agent"), "--node", "here", "--runtime-dir", str(self._world.directory / "agent")]
        environment = {"PYTHONPATH": f"{plugins}:{ROOT}", double.TALKER: self.talker.where}
        argv += ["--server-url", self.coordinator.where]
        return self._world.start("agent", argv, stage=3, environment=environment)

    @contextlib.contextmanager
    def tunnel(self, debugger: str) -> Iterator[tuple[Address, int]]:
        """Where a client is to connect, and the pid of the `squashctl connect` that listens there."""
        place = {"pod": "bench", "namespace": self._world.namespace}
        wanted = DebugAttachment(spec=AttachmentSpec(attachment=place, debugger=debugger))
        with self._world.client() as client:
            made = client.send(create_attachment(wanted))
        argv = [str(BIN / "squashctl"), "connect", made.name, "--json", "--server", self.coordinator.where]
        log = self._world.directory / f"connect-{debugger}.log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=errors, text=True, env=self._world.environment()
            ) as process,
        ):
            try:
                yield _said(process), process.pid
            finally:
                process.terminate()
        # The next debugger comes into the same process.
        with self._world.client() as client:
            client.send(delete_attachment(made.name))

    def pids(self, connect: int) -> list[int]:
        return [connect, *(child.pid for child in (self.talker, self.relay, self.coordinator, self.agent))]


def measure(effort: Effort, tell: Tell) -> Iterator[Measurement]:
    with World("squash-bench-tunnel") as world:
        way = Way(world)
        for kinds in ((GDB,), (DAP, *SIZES)):
            with way.tunnel(kinds[0].debugger) as (address, connect):
                yield from _throughput(way, address, connect, kinds, effort, tell)
                yield _round_trips(way, address, kinds[0], effort, tell)


def _throughput(
    way: Way, address: Address, connect: int, kinds: Sequence[Kind], effort: Effort, tell: Tell
) -> Iterator[Measurement]:
    pids = way.pids(connect)
    for kind in kinds:
        pairs = []
        for pair in _pairs(address, way.relay.address, kind, pids, effort):
            pairs.append(pair)
            tell(f"{kind.key}: {pair.ours.rate:.0f} : {pair.plain.rate:.0f} MB/s")
        calm = [pair for pair in pairs if pair.calm]
        if len(calm) < LEAST:
            raise BenchError(
                f"only {len(calm)} of {len(pairs)} pairs of runs were undisturbed: other programs had the machine; "
                "try again when it has less to do"
            )
        notes = {"pairs": [asdict(pair) for pair in pairs], "disturbed": len(pairs) - len(calm)}
        yield middle(f"tunnel.{kind.key}_ratio", "", [pair.ours.rate / pair.plain.rate for pair in calm], **notes)


def _pairs(ours: Address, plain: Address, kind: Kind, pids: Sequence[int], effort: Effort) -> Iterator[Pair]:
    """Until there are enough calm ones; at most twice as many as that."""
    wanted, seconds = max(LEAST, effort.rounds), effort.seconds / 4
    with _connected(ours) as tunnelled, _connected(plain) as relayed:
        for client in (tunnelled, relayed):
            kind.begin(client)
            _load(client, kind, WARM_UP, pids)
        calm = 0
        for turn in range(wanted * 2):
            # Whatever drifts with time weighs on both alike.
            if turn % 2:
                first = _load(tunnelled, kind, seconds, pids)
                pair = Pair(first, _load(relayed, kind, seconds, pids))
            else:
                first = _load(relayed, kind, seconds, pids)
                pair = Pair(_load(tunnelled, kind, seconds, pids), first)
            yield pair
            calm += pair.calm
            if calm == wanted:
                return


def _load(client: socket.socket, kind: Kind, seconds: float, pids: Sequence[int]) -> Run:
    request, length = kind.request(kind.number), len(kind.answer(kind.number))
    buffer = bytearray(_CHUNK)
    busy, own, begun = cores.busy_seconds(), _own(pids), time.monotonic()
    until = begun + seconds
    client.sendall(request * AHEAD)
    owed, came = AHEAD * length, 0
    while came < owed:
        if not (count := client.recv_into(buffer)):
            raise BenchError("the debug server hung up")
        before, came = came // length, came + count
        if (whole := came // length - before) and time.monotonic() < until:
            client.sendall(request * whole)
            owed += whole * length
    wall = time.monotonic() - begun
    others = cores.busy_seconds() - busy - (_own(pids) - own)
    return Run(came / wall / 1e6, others / wall)


def _own(pids: Sequence[int]) -> float:
    return time.process_time() + sum(cores.cpu_seconds(pid) for pid in pids)


def _round_trips(way: Way, address: Address, kind: Kind, effort: Effort, tell: Tell) -> Measurement:
    """By how much one is longer than one without anything in between, by their medians."""
    added, notes = [], []
    with _connected(address) as tunnelled, _connected(way.talker.address) as straight:
        for client in (tunnelled, straight):
            kind.begin(client)
        for turn in range(effort.rounds + 1):
            long, short = _round_trip(tunnelled, kind), _round_trip(straight, kind)
            tell(f"{kind.key}: {long:.2f} : {short:.2f} ms")
            if turn:
                added.append(long - short)
                notes.append((long, short))
    return middle(f"tunnel.{kind.key}_added_ms", "ms", added, tunnelled_and_straight=notes)


def _round_trip(client: socket.socket, kind: Kind) -> float:
    """Milliseconds, half of them at most."""
    request, length = kind.request(0), len(kind.answer(0))
    took = []
    for _ in range(ROUND_TRIPS):
        begun = time.monotonic()
        client.sendall(request)
        _take(client, length)
        took.append((time.monotonic() - begun) * 1000)
    return median(took)


def _take(client: socket.socket, length: int) -> None:
    while length > 0:
        if not (data := client.recv(_CHUNK)):
            raise BenchError("the debug server hung up")
        length -= len(data)


@contextlib.contextmanager
def _connected(address: Address) -> Iterator[socket.socket]:
    with socket.create_connection((address.host, address.port), LIMIT) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client


def _said(process: "subprocess.Popen[str]") -> Address:
    """Where it listens, from the document that it prints. Raises BenchError."""
    assert process.stdout
    text = ""
    for line in process.stdout:
        text += line
        with contextlib.suppress(json.JSONDecodeError):
            listen = json.loads(text)["listen"]
            return Address(listen["host"], listen["port"])
    raise BenchError(f"squashctl connect ended with {process.wait()}: {text[-300:]}")

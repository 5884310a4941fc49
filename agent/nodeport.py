"""The port of a Node process's inspector: found, or opened by SIGUSR1, used once, and closed again.

What is asked of it is evaluated as soon as the main thread runs JavaScript, and closes the port in the same turn. The
request brings its own goodbye, so that nobody is waited for: not even for an agent that stood still just then.
"""

import contextlib
import http.client
import itertools
import json
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from websockets.client import ClientProtocol
from websockets.exceptions import WebSocketException
from websockets.protocol import State
from websockets.uri import parse_uri

from agent import netdiag, netns, signals
from agent.bounded import Bounded
from agent.process import Process
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason

STARTER = Path(__file__).parent / "debuggers" / "inside" / "starter.js"
USUAL = 9229
LOCAL = "127.0.0.1"
WAKE = 5.0
"""Seconds for Node to open its port after SIGUSR1: a thread of its own does it, whatever the main thread does."""
LOOK = 0.0005
"""Seconds between two looks whether it has: nothing tells."""
PASSING = 1.0
"""Seconds that the port of another process of the same network may take to be closed."""
ANSWER = 5.0
"""Seconds for one connection to the thread that serves the port, and all it says there."""
CLOSE = 5.0
"""Seconds in which a port that was opened for nothing is tried to be closed, while the caller waits."""
LATE = 20.0
"""Seconds for a port that was not opened in time, and may be still."""
OWN_PORTS = "give each its own (NODE_OPTIONS=--inspect-port=0 does)"
_MOST = 1_048_576
"""Bytes of what is said on a connection."""
_FAILURES = (OSError, WebSocketException, http.client.HTTPException, ValueError, LookupError)
_PORT = re.compile(r"--(?:inspect|inspect-brk|inspect-wait|inspect-port|debug-port)[= ](?:\S*:)?(\d+)(?!\S)")
_ON = re.compile(r"--inspect(?:-brk|-wait)?(?=[= ]|$)")
_ZERO = re.compile(r"--inspect(?:-brk|-wait)?=(?:\S*:)?0(?!\S)")
_HOST = re.compile(r"--inspect(?:-brk|-wait)?=(\S*:|[^\s\d:][^\s:]*|\d+\.\d+\.\d+\.\d+)(?:\d+)?(?!\S)")
_VALUED = frozenset({"-r", "--require", "--import", "--loader", "--experimental-loader", "-C", "--conditions"})


class Place(NamedTuple):
    host: str
    port: int

    @property
    def loopback(self) -> bool:
        return self.host.startswith("127.") or self.host == "::1"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class MaybeOpenError(SquashError):
    """A port that SIGUSR1 was to open is still open, or may come yet: `put_back` closes it then."""

    def __init__(self, reason: Reason, message: str, put_back: Callable[[], bool]) -> None:
        super().__init__(reason, message)
        self.put_back = put_back
        """Blocks, for LATE seconds at most. True when the port is closed."""


class Port(NamedTuple):
    """The port that was used. `ours`: it was opened for this, and closes."""

    place: Place
    ours: bool
    strangers: tuple[str, ...] = ()
    """Who was connected to it besides: it closes when they have left."""

    @property
    def remark(self) -> str:
        """What a developer should know of it; mostly empty."""
        if self.strangers:
            who = ", ".join(self.strangers)
            return f"somebody else ({who}) was connected to its inspector at {self.place}: it closes when they leave"
        if not self.ours and not self.place.loopback:
            return f"its own inspector listens on {self.place}, open to other machines: anybody there controls it"
        return ""


def evaluate(process: Process, job: Mapping[str, str]) -> Port:
    """Has the starter evaluated with this job; opens the inspector for it where it is closed.

    Blocks for milliseconds, at most `WAKE` and thrice `ANSWER`. Returns when it is asked, not when it is done: that
    takes a main thread that runs JavaScript. Raises SquashError.
    """
    if found := already_open(process):
        try:
            connection, protocol = _connect(process, found)
        except _FAILURES as error:
            raise _unreachable(process, found, error) from error
        with connection:
            _ask(connection, protocol, {**job, "close": "no"})
        return Port(found, ours=False)
    _check_signal(process)
    _check_port(process)
    place, find = _wake(process)
    try:
        connection, protocol = _connect(process, place)
        with connection:
            strangers = tuple(_others(process, place, connection))
            _ask(connection, protocol, {**job, "close": "later" if strangers else "now"})
    except _FAILURES as error:
        if not _put_back(process, find, CLOSE):
            message = f"its inspector at {place}, opened by SIGUSR1, could not be closed again"
            message = f"process {process.pid}: {error}; {message}"
            raise MaybeOpenError(Reason.ATTACH_FAILED, message, lambda: _put_back(process, find, LATE)) from error
        raise _unreachable(process, place, error) from error
    return Port(place, ours=True, strangers=strangers)


def shut(process: Process) -> bool:
    """Closes an inspector that an agent opened which died at once. True when there was one. Raises OSError."""
    return bool(already_open(process)) and _put_back(process, lambda: already_open(process), CLOSE)


def _put_back(process: Process, find: Callable[[], Place | None], patience: float) -> bool:
    """Has a port closed as soon as it is open, and tries again when that fails. Blocks `patience` seconds at most.

    True when it is closed, or will be as soon as the main thread runs JavaScript, or went with the process.
    """
    deadline, seen, pause = time.monotonic() + patience, False, LOOK
    while process.alive and time.monotonic() < deadline:
        with contextlib.suppress(*_FAILURES):
            place = find()
            if place is None and seen:
                return True
            if place:
                seen = True
                connection, protocol = _connect(process, place)
                with connection:
                    others = list(_others(process, place, connection))
                    _ask(connection, protocol, {"close": "later" if others else "now"})
                return True
        time.sleep(pause)
        pause = min(2 * pause, 0.5)
    return not process.alive


def already_open(process: Process) -> Place | None:
    """Where its inspector listens, if it does. Raises OSError.

    Only the port that must be it is asked: nobody knows what the program does when one of its own is.
    """
    words = options(process)
    wanted = 0 if _ZERO.search(words) else port_of(words)
    if not wanted and not _ON.search(words):
        return None
    mine = []
    for found in netdiag.sockets(process.pid, netdiag.LISTEN, wanted):
        number = procfs.descriptor_of(process.pid, found.inode)
        if number is not None and (wanted or found.host == open_at(process)):
            mine.append((number, Place(found.host, found.port)))
    # It is opened before the program starts, and so before any port of the program's.
    place = min(mine)[1] if mine else None
    return place if place and _is_inspector(process, place) else None


def open_at(process: Process) -> str:
    """On which host its options say that the inspector listens; empty when they do not. Only looks."""
    words = options(process)
    if not _ON.search(words):
        return ""
    named = _HOST.findall(words)
    host = named[-1].rstrip(":").strip("[]") if named else ""
    return LOCAL if host in ("", "localhost") else host


def check(process: Process) -> None:
    """Whether the inspector is on or can be opened. Only looks. Raises SquashError."""
    if not open_at(process):
        _check_signal(process)


def _check_signal(process: Process) -> None:
    """What makes SIGUSR1 safe and of use. Raises SquashError."""
    pid = process.pid
    status, stat = procfs.status(pid), procfs.stat(pid)
    if status is None or stat is None:
        raise SquashError(Reason.PROCESS_GONE, f"process {pid} is gone")
    if stat.state in "Tt":
        raise SquashError(Reason.DEBUGGER_UNSUITED, f"process {pid} is stopped; continue it first (SIGCONT)")
    words = options(process)
    if not catches_sigusr1(status):
        message = f"process {pid} does not handle SIGUSR1, which would end it: its inspector is off"
        raise SquashError(Reason.DEBUGGER_UNSUITED, message)
    if "--disable-sigusr1" in words:
        message = f"process {pid} was started with --disable-sigusr1; start it without, or with --inspect=127.0.0.1"
        raise SquashError(Reason.DEBUGGER_UNSUITED, message)
    if workers := cluster_workers(process):
        shown = ", ".join(str(worker) for worker in workers)
        message = (
            f"process {pid} is the primary of a cluster, and would open the inspectors of its workers along with its "
            f"own; debug one of them: {shown}"
        )
        raise SquashError(Reason.DEBUGGER_UNSUITED, message)


def _check_port(process: Process) -> None:
    """That the port which it wants is free: the second of one network would only complain on its standard error."""
    port = port_of(options(process))
    if port and _stays_taken(process.pid, port):
        message = f"the inspector of process {process.pid} wants port {port}, which another process of its network has"
        raise SquashError(Reason.DEBUGGER_UNSUITED, f"{message}; {OWN_PORTS}")


def _stays_taken(pid: int, port: int) -> bool:
    """Whether somebody listens on a port, and not only for the moment that another attach takes."""
    deadline = time.monotonic() + PASSING
    while taken := bool(netdiag.sockets(pid, netdiag.LISTEN, port)):
        if time.monotonic() > deadline:
            break
        time.sleep(10 * LOOK)
    return taken


def catches_sigusr1(status: dict[str, str]) -> bool:
    return bool(int(status.get("SigCgt", "0"), 16) >> (signal.SIGUSR1 - 1) & 1)


def cluster_workers(process: Process) -> list[int]:
    """Children that the cluster module of Node made."""
    return [pid for pid in procfs.children(process.pid) if "NODE_UNIQUE_ID" in (procfs.environ(pid) or {})]


def options(process: Process) -> str:
    """What Node itself was told, by environment and command line, in the order in which it counts."""
    environment = procfs.environ(process.pid) or {}
    return " ".join([environment.get("NODE_OPTIONS", ""), *_own_words(process.cmdline[1:])]).strip()


def _own_words(words: tuple[str, ...]) -> Iterator[str]:
    """Those before the script: what comes after it is the program's."""
    value = False
    for word in words:
        if not value and not word.startswith("-"):
            return
        value = word in _VALUED or word in ("--inspect-port", "--debug-port")
        yield word


def port_of(words: str) -> int:
    """The port that its options name for the inspector; 0 is any."""
    named = _PORT.findall(words)
    return int(named[-1]) if named else USUAL


def _wake(process: Process) -> tuple[Place, Callable[[], Place | None]]:
    """Sends SIGUSR1; returns as soon as the inspector listens, with what finds it again. Raises SquashError."""
    pid, wanted = process.pid, port_of(options(process))
    before = {found.inode for found in netdiag.sockets(pid, netdiag.LISTEN)}
    rivals = set()

    def find(port: int = wanted) -> Place | None:
        try:
            listening = netdiag.sockets(pid, netdiag.LISTEN, port)
        except OSError:
            return None  # whoever looks again sees whether it is gone
        for found in listening:
            if found.inode not in before and procfs.descriptor_of(pid, found.inode) is not None:
                return Place(found.host, found.port)
            if found.port == wanted:
                rivals.add(found.inode)
        return None

    signals.send(process, signal.SIGUSR1, lambda: _check_signal(process))
    deadline = time.monotonic() + WAKE
    for look in itertools.count():
        # Its program may have chosen another port meanwhile (process.debugPort).
        port = wanted if look % 100 else 0
        if place := find(port):
            return place, partial(find, port)
        if time.monotonic() > deadline or not process.alive:
            break
        time.sleep(LOOK)
    why = "its standard error may say why, or its program has taken that signal for itself"
    if rivals:  # another agent may have woken it, in the same moment
        why = f"another process of its network had port {wanted} just then: try again, or {OWN_PORTS}"
    message = f"process {pid} did not open its inspector within {WAKE:g} s of SIGUSR1; {why}"
    raise MaybeOpenError(Reason.DEBUGGER_UNSUITED, message, lambda: _put_back(process, find, LATE))


def _dial(process: Process, place: Place) -> socket.socket:
    return Bounded.of(netns.connect(process.pid, place.host, place.port, ANSWER), ANSWER, _MOST)


def _is_inspector(process: Process, place: Place) -> bool:
    try:
        return bool(_endpoint(process, place))
    except _FAILURES:
        return False


def _endpoint(process: Process, place: Place) -> str:
    """The address of the inspector's WebSocket. Raises _FAILURES."""
    asking = http.client.HTTPConnection(place.host, place.port)
    asking.sock = _dial(process, place)
    try:
        asking.request("GET", "/json/list", headers={"Host": f"localhost:{place.port}"})
        return str(json.loads(asking.getresponse().read())[0]["webSocketDebuggerUrl"])
    finally:
        asking.close()


def _connect(process: Process, place: Place) -> tuple[socket.socket, ClientProtocol]:
    """A WebSocket that is open. Raises _FAILURES."""
    protocol = ClientProtocol(parse_uri(_endpoint(process, place)))
    connection = _dial(process, place)
    try:
        protocol.send_request(protocol.connect())
        connection.sendall(b"".join(protocol.data_to_send()))
        while protocol.state is State.CONNECTING:
            data = connection.recv(65_536)
            if not data:
                raise ConnectionError("it hung up")
            protocol.receive_data(data)
            protocol.events_received()
            if protocol.handshake_exc:
                raise protocol.handshake_exc
    except BaseException:
        connection.close()
        raise
    return connection, protocol


def _ask(connection: socket.socket, protocol: ClientProtocol, job: dict[str, Any]) -> None:
    """Question and goodbye in one: the port must not have to wait for us. Raises OSError."""
    expression = f"({STARTER.read_text()})({json.dumps(job)})"
    parameters = {"expression": expression, "includeCommandLineAPI": True, "returnByValue": True}
    protocol.send_text(json.dumps({"id": 1, "method": "Runtime.evaluate", "params": parameters}).encode())
    protocol.send_close()
    connection.sendall(b"".join(protocol.data_to_send()))
    # Its goodbye. What is closed before is broken off, and takes the question with it.
    with contextlib.suppress(OSError):
        while connection.recv(65_536):
            pass


def _others(process: Process, place: Place, ours: socket.socket) -> Iterator[str]:
    """Who is connected to this port besides us."""
    own = ours.getsockname()[1]
    for found in netdiag.sockets(process.pid, netdiag.ESTABLISHED, place.port):
        if found.remote != own:
            there = netdiag.sockets(process.pid, netdiag.ESTABLISHED, found.remote)
            users = [f"uid {client.uid}" for client in there if client.remote == place.port]
            yield users[0] if users else "from elsewhere"


def _unreachable(process: Process, place: Place, error: Exception) -> SquashError:
    message = f"the inspector of process {process.pid} cannot be reached at {place}: {error}"
    if isinstance(error, PermissionError):
        return SquashError(Reason.CAPABILITY_MISSING, f"{message}: entering another network takes CAP_SYS_ADMIN")
    return SquashError(Reason.ATTACH_FAILED, message)

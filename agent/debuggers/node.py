"""Node.js by pid: its own inspector, reached from a worker thread of the process, over unix sockets.

SIGUSR1 makes Node listen on a port of its loopback, which anybody in the pod could use. So that port serves once: by it
the agent brings in a worker (inside/attach.js), which dials the agent, and the port is closed again, a few milliseconds
after it was opened. A process that was started with --inspect keeps the port that it had.
"""

import asyncio
import http.client
import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from agent import netns
from agent.debuggers import Target, attempt
from agent.denied import denied
from agent.inner import Inner
from agent.line import Line
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding
from agent.preflight.needs import Needs
from agent.process import Process
from agent.streams import Stream
from agent.terms import ORDINARY, Terms
from squash import procfs
from squash.errors import SquashError
from squash.logs import Log
from squash.reasons import Reason
from squash.tasks import spawn

INSIDE = Path(__file__).parent / "inside" / "attach.js"
WAKE = 5.0
"""Seconds for Node to open its port after SIGUSR1: a thread of its own does it, whatever the main thread does."""
LOOK = 0.002
"""Seconds between two looks whether it has: nothing tells."""
ANSWER = 10.0
"""Seconds for one answer over the port."""
USUAL = 9229
_WORDS = re.compile(r"--(?:inspect-port|debug-port)[= ](?:\S*:)?(\d+)")
_log = Log("node")


class Node:
    name = "node"
    protocol = "inspector"
    needs = Needs(signals=True, directory=True, network=True, runs_code=True)

    def examine(self, facts: Facts) -> Iterable[Finding]:
        """Nothing beyond what `needs` says."""
        return ()

    def claim(self, process: Process) -> float:
        return 0.9 if re.fullmatch(r"node(js)?(-?\d+)?", Path(process.exe).name) else -1.0

    async def attach(self, target: Target) -> "NodeServer":
        inner = await asyncio.to_thread(Inner.make, target.process, target.directory)
        line = Line(target.process, inner)
        began, failure = time.monotonic(), None
        try:
            await line.listen()
            await _bring_in(target.process, line)
            await line.greeting()
            return NodeServer(line)
        except SquashError as error:
            failure = error
            raise
        finally:
            if not line.arrived or failure:
                await line.close()
            target.attempts.append(attempt("inspector, worker thread", began, failure))

    async def recover(self, directory: Path) -> None:
        """Takes the socket out of the container; the worker ended with the agent's control line."""
        if inner := await asyncio.to_thread(Inner.left_behind, directory):
            await asyncio.to_thread(inner.remove)


class NodeServer:
    def __init__(self, line: Line) -> None:
        self._line = line

    async def connect(self, terms: Terms = ORDINARY) -> Stream:
        return await self._line.client(terms)

    async def disconnected(self) -> None:
        await self._line.tell("disconnect")

    async def ended(self) -> None:
        await self._line.ended.wait()

    async def detach(self) -> None:
        await self._line.tell("detach")
        await self._line.close()


async def _bring_in(process: Process, line: Line) -> None:
    """Has the worker started by way of the process's port. Raises SquashError."""
    port, ours = await _port(process)
    try:
        address = await asyncio.to_thread(_endpoint, process, port)
        line_to_it = await asyncio.to_thread(_dial, process, port)
        connection = await connect(address, sock=line_to_it, compression=None, max_size=None)
    except (OSError, WebSocketException, http.client.HTTPException, ValueError, LookupError) as error:
        message = f"the inspector of process {process.pid} cannot be reached at {port[0]}:{port[1]}: {error}"
        raise SquashError(Reason.ATTACH_FAILED, message) from error
    # It has its answer when the main thread is back in JavaScript, and only then is the port closed. Should that last
    # longer than somebody waits for it, the worker finds that it is not wanted.
    asked = spawn(_start_worker(connection, line, close=ours), f"worker of {process.pid}")
    try:
        async with asyncio.timeout(ANSWER):
            problem = await asyncio.shield(asked)
    except TimeoutError:
        message = f"the main thread of process {process.pid} has not come to run JavaScript for {ANSWER:g} s"
        raise SquashError(Reason.ATTACH_TIMEOUT, message) from None
    if problem:
        raise SquashError(Reason.DEBUGGER_UNSUITED, f"process {process.pid}: {problem}")


async def _port(process: Process) -> tuple[tuple[str, int], bool]:
    """Where the inspector listens, and whether it does so only for us. Raises SquashError."""
    pid = process.pid
    before = await asyncio.to_thread(procfs.listening, pid)
    if running := [place for place in before if await asyncio.to_thread(_is_inspector, process, place)]:
        return running[0], False
    _check(process)
    try:
        os.kill(pid, signal.SIGUSR1)
    except PermissionError as error:
        raise denied(process) from error
    deadline = time.monotonic() + WAKE
    while time.monotonic() < deadline and process.alive:
        if fresh := await asyncio.to_thread(procfs.listening, pid) - before:
            return fresh.pop(), True
        await asyncio.sleep(LOOK)
    message = f"process {pid} did not open its inspector after SIGUSR1: see its standard error for why"
    raise SquashError(Reason.DEBUGGER_UNSUITED, message)


def _check(process: Process) -> None:
    """What makes SIGUSR1 safe and of use. Raises SquashError."""
    status = procfs.status(process.pid) or {}
    caught = int(status.get("SigCgt", "0"), 16)
    if not caught >> (signal.SIGUSR1 - 1) & 1:
        message = f"process {process.pid} does not handle SIGUSR1, which would end it: its inspector is off"
        raise SquashError(Reason.DEBUGGER_UNSUITED, message)
    options = _options(process)
    if "--disable-sigusr1" in options:
        raise SquashError(Reason.DEBUGGER_UNSUITED, f"process {process.pid} was started with --disable-sigusr1")
    wanted = _WORDS.search(options)
    port = int(wanted[1]) if wanted else USUAL
    # Two of one pod want the same port; the second one would only complain on its standard error.
    if port and port in procfs.taken_ports(process.pid):
        message = f"the inspector of process {process.pid} wants port {port}, which another process of the pod has"
        raise SquashError(Reason.DEBUGGER_UNSUITED, message)


def _options(process: Process) -> str:
    environment = procfs.environ(process.pid) or {}
    return " ".join([environment.get("NODE_OPTIONS", ""), *process.cmdline[1:]])


def _is_inspector(process: Process, place: tuple[str, int]) -> bool:
    """Whether one of its ports is the inspector: only such as its options or the usual number name are asked."""
    options = _options(process)
    named = {int(port) for port in re.findall(r"--inspect(?:-brk|-wait)?[= ](?:\S*:)?(\d+)", options)}
    if place[1] not in named | ({USUAL} if "--inspect" in options else set()):
        return False
    try:
        return bool(_endpoint(process, place))
    except (OSError, http.client.HTTPException, ValueError, LookupError):
        return False


def _dial(process: Process, place: tuple[str, int]) -> socket.socket:
    host, port = place
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    return netns.connect(process.pid, anywhere.get(host, host), port, ANSWER)


def _endpoint(process: Process, place: tuple[str, int]) -> str:
    """Asks for the address of the inspector's WebSocket. Raises OSError, HTTPException, ValueError, LookupError."""
    asking = http.client.HTTPConnection(*place)
    asking.sock = _dial(process, place)
    try:
        asking.request("GET", "/json/list", headers={"Host": "localhost"})
        return str(json.loads(asking.getresponse().read())[0]["webSocketDebuggerUrl"])
    finally:
        asking.close()


async def _start_worker(connection: ClientConnection, line: Line, *, close: bool) -> str:
    """Returns what went wrong inside, or an empty string."""
    script = {"path": line.path, "ticket": line.ticket, "source": INSIDE.read_text(), "close": close}
    expression = f"({_STARTER})({json.dumps(script)})"
    parameters = {"expression": expression, "includeCommandLineAPI": True, "returnByValue": True}
    request = {"id": 1, "method": "Runtime.evaluate", "params": parameters}
    try:
        await connection.send(json.dumps(request))
        answer: dict[str, Any] = {}
        while answer.get("id") != 1:
            answer = json.loads(await connection.recv())
    except WebSocketException as error:
        return f"the inspector hung up: {error}"
    finally:
        # A port that closes waits for whoever is still there.
        connection.transport.abort()
    result = answer.get("result", {})
    thrown = result.get("exceptionDetails", {}).get("exception", {}).get("description")
    return str(thrown or answer.get("error", {}).get("message") or result.get("result", {}).get("value") or "")


_STARTER = """
({ path, ticket, source, close }) => {
  const inspector = require('inspector');
  let problem = '';
  if (close) {
    // Whatever happens below. At once it would wait for the one who asks.
    setTimeout(() => { try { inspector.close(); } catch {} }, 0);
  }
  if (inspector.Session.prototype.connectToMainThread) {
    const { Worker } = require('worker_threads');
    const worker = new Worker(source, { eval: true, workerData: { path, ticket }, env: {}, execArgv: [] });
    worker.on('error', () => {});
    worker.unref();
  } else {
    problem = `${process.version} cannot be debugged from a thread of its own; that takes Node 12.11`;
  }
  return problem;
}
"""

"""The stock tools by themselves: what an attach costs at least for whoever uses them as they come."""

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from websockets.sync.client import connect

from bench.measure import BenchError
from demo.scenes import STOCK_LINE
from demo.shop import STOCK
from demo.telling import line_of
from demo.world import Child
from squash import local, procfs

LIMIT = 60.0
"""Seconds for any one of them."""
LOOPBACK = "127.0.0.1"
QUERY = b"$qSupported#37"
"""The first thing a client says in gdb's remote protocol."""
HANDSHAKE = b"JDWP-Handshake"
ID_SIZES = struct.pack(">IIBBB", 11, 1, 0, 1, 7)
"""The first question of a debugger in JDWP."""
SIZES = 11 + 5 * 4
"""Bytes of the answer to it."""


def debugpy(target: Child) -> float:
    """Seconds from starting `python -m debugpy --listen PORT --pid PID` until its port takes a client.

    That is not tried before the command has ended: an earlier client makes the target crash.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    argv = [sys.executable, "-m", "debugpy", "--listen", f"127.0.0.1:{port}", "--pid", str(target.pid)]
    begun = time.monotonic()
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LIMIT)
    if done.returncode:
        raise BenchError(f"stock debugpy ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    with socket.create_connection(("127.0.0.1", port), LIMIT):
        return time.monotonic() - begun


@contextlib.contextmanager
def no_adapters(pod: str, namespace: str) -> Iterator[None]:
    """Stock debugpy leaves an adapter beside its target, with the target's environment; ends those of this pod."""
    try:
        yield
    finally:
        for process in [found for found in local.scan() if (found.pod, found.namespace) == (pod, namespace)]:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(process.pid)
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                select.select([handle], [], [], LIMIT)
                os.close(handle)


def gdbserver(target: Child) -> float:
    """Seconds from starting `gdbserver --attach - PID` until it has answered a client's first question."""
    begun = time.monotonic()
    with subprocess.Popen(
        ["gdbserver", "--attach", "-", str(target.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
    ) as process:
        assert process.stdin
        assert process.stdout
        try:
            process.stdin.write(QUERY)
            first_answer(process.stdout.fileno())
            return time.monotonic() - begun
        finally:
            # It takes no leave: its target is nobody's, and ends next.
            process.kill()


def gdb(target: Child) -> float:
    """Seconds from starting `gdb -p PID` until its breakpoint is set."""
    place = f"{STOCK.name}:{line_of(STOCK, STOCK_LINE)}"
    argv = ["gdb", "-nx", "-batch", "-p", str(target.pid), "-ex", f"break {place}", "-ex", "detach"]
    begun = time.monotonic()
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout
        try:
            for line in process.stdout:
                if line.startswith(b"Breakpoint 1 at"):
                    took = time.monotonic() - begun
                    process.communicate(timeout=LIMIT)
                    return took
        finally:
            process.kill()
    raise BenchError(f"gdb did not set a breakpoint at {place}")


def jdwp(target: Child) -> float:
    """Seconds from a client's connect to a JVM whose JDWP listens until it has an answer: it may set breakpoints."""
    deadline = time.monotonic() + LIMIT
    # Java's own sockets have addresses of IPv6.
    while not (places := [place for place in procfs.listening(target.pid) if place[0] == "127.0.0.1"]):
        if time.monotonic() > deadline:
            raise BenchError("the JVM does not listen for debuggers")
    return jdwp_answer(socket.AF_INET, places[0])


def jdwp_sleeps() -> bool:
    """Whether this Java knows `onjcmd=y`: some releases do."""
    library = Path(shutil.which("java") or "").resolve().parent.parent / "lib/libjdwp.so"
    return library.is_file() and b"onjcmd" in library.read_bytes()


def jdwp_woken(target: Child) -> float:
    """The same for a JVM whose JDWP sleeps, which stock `jcmd` wakes."""
    begun = time.monotonic()
    argv = ["jcmd", str(target.pid), "VM.start_java_debugging"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=LIMIT)
    if done.returncode:
        raise BenchError(f"jcmd ended with {done.returncode}: {done.stdout.strip()[-300:]}")
    jdwp(target)
    return time.monotonic() - begun


def jdwp_answer(family: socket.AddressFamily, address: str | tuple[str, int]) -> float:
    """Seconds from a client's connect until its first question of JDWP is answered."""
    with socket.socket(family) as client:
        client.settimeout(LIMIT)
        begun = time.monotonic()
        client.connect(address)
        client.sendall(HANDSHAKE + ID_SIZES)
        wanted, found = len(HANDSHAKE) + SIZES, b""
        while len(found) < wanted:
            if not (data := client.recv(wanted - len(found))):
                raise BenchError(f"the JVM hung up: {found!r}")
            found += data
        return time.monotonic() - begun


def node(target: Child, port: int) -> float:
    """Seconds from SIGUSR1 until a client at the port of the inspector has set a breakpoint."""
    begun = time.monotonic()
    os.kill(target.pid, signal.SIGUSR1)
    while True:
        try:
            socket.create_connection((LOOPBACK, port), LIMIT).close()
            break
        except ConnectionRefusedError as error:
            if time.monotonic() > begun + LIMIT:
                raise BenchError("the inspector does not listen") from error
            time.sleep(0.0005)
    inspector_breakpoint(socket.AF_INET, (LOOPBACK, port))
    return time.monotonic() - begun


def inspector_breakpoint(family: socket.AddressFamily, address: str | tuple[str, int]) -> float:
    """Seconds from a client's connect to an inspector until its first breakpoint is answered."""
    begun = time.monotonic()
    asking = http.client.HTTPConnection(LOOPBACK)
    asking.sock = _dial(family, address)
    asking.request("GET", "/json/list")
    [found] = json.loads(asking.getresponse().read())
    asking.close()
    where = found["webSocketDebuggerUrl"]
    with connect(where, sock=_dial(family, address), compression=None, max_size=None, proxy=None) as client:
        for number, method, parameters in (
            (1, "Debugger.enable", {}),
            (2, "Debugger.setBreakpointByUrl", {"url": "file:///server.js", "lineNumber": 1}),
        ):
            client.send(json.dumps({"id": number, "method": method, "params": parameters}))
            while json.loads(client.recv(LIMIT)).get("id") != number:
                pass
        return time.monotonic() - begun


def _dial(family: socket.AddressFamily, address: str | tuple[str, int]) -> socket.socket:
    made = socket.socket(family)
    made.settimeout(LIMIT)
    made.connect(address)
    return made


def delve(target: Child) -> float:
    """Seconds from starting `dlv attach PID --headless` until a client has set a breakpoint."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--headless", "--api-version=2", f"--listen=127.0.0.1:{port}"]
    begun = time.monotonic()
    with subprocess.Popen(
        ["dlv", "attach", str(target.pid), *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        try:
            # It says so before it attaches, and serves afterwards.
            if b"listening" not in process.stdout.readline():
                raise BenchError("delve does not listen")
            delve_breakpoint(socket.AF_INET, ("127.0.0.1", port))
            return time.monotonic() - begun
        finally:
            process.kill()


def delve_breakpoint(family: socket.AddressFamily, address: str | tuple[str, int]) -> float:
    """Seconds from a client's connect until delve has set its breakpoint. It hangs up without letting go on."""
    wanted = {"Breakpoint": {"functionName": "main.price", "line": -1}}
    question = {"method": "RPCServer.CreateBreakpoint", "params": [wanted], "id": 1}
    with socket.socket(family) as client:
        client.settimeout(LIMIT)
        begun = time.monotonic()
        client.connect(address)
        client.sendall(json.dumps(question).encode())
        found = b""
        while not found.endswith(b"\n"):
            if not (data := client.recv(65_536)):
                raise BenchError(f"delve hung up: {found!r}")
            found += data
        took = time.monotonic() - begun
    if b'"error":null' not in found:
        raise BenchError(f"delve did not set a breakpoint: {found!r}")
    return took


def first_answer(descriptor: int) -> bytes:
    """The first packet that comes, whole. Raises BenchError when none does."""
    found = b""
    deadline = time.monotonic() + LIMIT
    while b"#" not in found[:-2]:
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise BenchError(f"gdbserver did not answer within {LIMIT:g} s")
        if not (data := os.read(descriptor, 65_536)):
            raise BenchError("gdbserver hung up")
        found += data
    return found

"""Clients of debuggers with the same few moves, one for each protocol, for whoever tests that debugging works.

They are blocking: from a test that is a coroutine call them in a thread. A client speaks to the address of an
attachment's debug server (`unix:/path`), or to a local end of the tunnel (`127.0.0.1:PORT`).
"""

import importlib
from pathlib import Path
from typing import NamedTuple, Protocol, Self

PATIENCE = 60.0
"""Seconds for an answer, or for a request to run into a breakpoint, on a slow and busy machine."""
_CLIENTS = {
    "debugpy": "tests.drivers.dap:DapClient",
    "delve": "tests.drivers.dap:DelveClient",
    "gdb": "tests.drivers.gdb:GdbClient",
    "jdwp": "tests.drivers.jdwp:JdwpClient",
    "node": "tests.drivers.inspector:InspectorClient",
}


class Spot(NamedTuple):
    """Where to break. Names are those that the debugger goes by, which are the process's own."""

    file: str
    """The source's path, as the process knows it; for gdb and JDWP the bare name does."""
    line: int
    function: str
    """For Java with its class: `Service.scaled`."""
    program: Path | None = None
    """For gdb: where symbols are read from."""


class Client(Protocol):
    """One session, past its protocol's greetings from the start. After an error only `close` is of use.

    Raises TimeoutError, OSError, or ClientError.
    """

    def begin(self, spot: Spot) -> None:
        """Sets a breakpoint; when it returns, the debugger has taken it and the process runs."""

    def stopped(self) -> str:
        """Waits until a thread stands at the breakpoint; where it stands, as `FUNCTION:LINE`."""

    def value(self, name: str) -> int:
        """A local variable of the thread that stopped."""

    def change(self, name: str, value: int) -> None:
        """Changes a local variable."""

    def go_on(self) -> None:
        """Lets the process run; the breakpoint stays."""

    def leave(self) -> None:
        """Takes leave as an editor does that disconnects: wherever the process is, it goes on without a breakpoint."""

    def close(self) -> None:
        """Hangs up, without a word if `leave` was not called. Idempotent."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...


class ClientError(Exception):
    """The debugger refused something, or hung up, or said what no debugger should."""


def connect(debugger: str, address: str, timeout: float = PATIENCE) -> Client:
    """A client of the right protocol for the debugger of this name; `timeout` in seconds for each answer and stop."""
    module, _, name = _CLIENTS[debugger].partition(":")
    client: Client = getattr(importlib.import_module(module), name)(address, timeout)
    return client


def find_line(source: Path, text: str = "the tests break here") -> int:
    """The number of the first line that has this text."""
    return next(number for number, line in enumerate(source.read_text().splitlines(), 1) if text in line)

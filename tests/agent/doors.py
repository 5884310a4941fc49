"""The agent's side of the tunnel alone, as a program: `python -m tests.agent.doors URL AGENT DIRECTORY`.

The debug server of attachment NAME is the socket DIRECTORY/NAME.
"""

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from agent.streams import Stream
from agent.tunnel import Door, Tunnel
from squash import logs, serve
from squash.errors import SquashError
from squash.reasons import Reason
from squash.tasks import spawn
from squash.tunnel import CHUNK, Guest


class SocketDoor:
    """A debug server that is a socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def enter(self, guest: Guest) -> Stream:
        try:
            return Stream(*await asyncio.open_unix_connection(self._path, limit=CHUNK))
        except OSError as error:
            raise SquashError(Reason.NOT_LISTENING, f"the debug server: {error.strerror}") from error


async def run(url: str, agent: str, directory: Path) -> None:
    def door(name: str) -> Door | None:
        path = directory / name
        return SocketDoor(path) if path.exists() else None

    tunnel = spawn(Tunnel(url, agent, door).run(), "tunnel")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tunnel.cancel)
    serve.announce("doors", str(directory))
    await asyncio.wait({tunnel})


if __name__ == "__main__":
    logs.setup("info", "text")
    serve.allow_many_files()
    uvloop.run(run(sys.argv[1], sys.argv[2], Path(sys.argv[3])))

"""The agent's side of the tunnel alone, as a program: `python -m tests.agent.doors URL AGENT DIRECTORY`.

The debug server of attachment NAME is the socket DIRECTORY/NAME.
"""

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from agent.tunnel import Tunnel
from squash import logs, serve
from squash.tasks import spawn


async def run(url: str, agent: str, directory: Path) -> None:
    def door(name: str) -> Path | None:
        path = directory / name
        return path if path.exists() else None

    tunnel = spawn(Tunnel(url, agent, door).run(), "tunnel")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, tunnel.cancel)
    serve.announce("doors", str(directory))
    await asyncio.wait({tunnel})


if __name__ == "__main__":
    logs.setup("info", "text")
    serve.allow_many_files()
    uvloop.run(run(sys.argv[1], sys.argv[2], Path(sys.argv[3])))

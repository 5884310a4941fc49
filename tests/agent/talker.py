"""A client that talks and never listens, to be killed: `python -m tests.agent.talker URL ATTACHMENT`."""

import asyncio
import socket
import sys

from squash.splice import Splice
from squash.tunnel import client_path
from squash.websocket import dial


async def talk(url: str, name: str) -> None:
    ours, theirs = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=ours)
    writer.write(bytes(64 * 1024 * 1024))
    await Splice(*await asyncio.open_connection(sock=theirs), await dial(url, client_path(name))).run()


if __name__ == "__main__":
    asyncio.run(talk(sys.argv[1], sys.argv[2]))

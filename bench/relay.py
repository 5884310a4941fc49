"""What the tunnel is compared with: a relay of TCP streams as anybody would write it with asyncio.

`python -m bench.relay HOST:PORT` on a free port, to there.
"""

import asyncio
import sys

from squash import serve
from squash.options import Address

CHUNK = 65_536


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # an end that broke is an end that closed
    finally:
        writer.close()


async def main(target: Address) -> None:
    async def serving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(target.host, target.port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(serving, "127.0.0.1", 0)
    serve.announce("relay", str(Address(*server.sockets[0].getsockname()[:2])))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Address.parse(sys.argv[1])))

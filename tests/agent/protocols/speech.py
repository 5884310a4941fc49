"""Words of the protocols, as bytes, and ways to cut them."""

import json
import re
from typing import Any


def dap(**message: Any) -> bytes:
    body = json.dumps(message).encode()
    return b"Content-Length: %d\r\n\r\n" % len(body) + body


def request(seq: int, command: str, **arguments: Any) -> bytes:
    return dap(type="request", seq=seq, command=command, arguments=arguments)


def response(seq: int, to: int, command: str, *, success: bool = True, **body: Any) -> bytes:
    return dap(type="response", seq=seq, request_seq=to, command=command, success=success, body=body)


def event(seq: int, name: str, **body: Any) -> bytes:
    return dap(type="event", seq=seq, event=name, body=body)


def messages(data: bytes) -> list[dict[str, Any]]:
    """What stands in bytes that are nothing but whole DAP messages."""
    found = []
    while data:
        header = re.match(rb"Content-Length: (\d+)\r\n\r\n", data)
        assert header, data[:80]
        stop = header.end() + int(header[1])
        found.append(json.loads(data[header.end() : stop]))
        data = data[stop:]
    return found


def packet(body: bytes) -> bytes:
    return b"$" + body + b"#%02x" % (sum(body) % 256)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces: list[bytes] = []
    start = 0
    while start < len(data):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(data[start : start + size])
        start += size
    return pieces

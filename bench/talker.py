"""A debug server's double for the tunnel's figures: says at once what it is asked for, in DAP or gdb's protocol.

`python -m bench.talker` on a free port. What it says is made beforehand, so that it costs nothing to say it.
"""

import contextlib
import socket
import threading
from collections.abc import Mapping

import msgspec

from squash import dap, serve

DAP_SIZES = {1: (1_000,) * 250, 2: (20_000,) * 12, 3: (1_000_000,), 4: (*(1_000,) * 64, *(20_000,) * 16, 1_000_000)}
"""Bytes of the JSON of each message of an answer, by the number that is asked for."""
DAP_DONE = dap.message(seq=2, type="request", command="configurationDone", arguments={"variablesReference": 0})
"""What every client says before the debugging begins."""
GDB_PACKET = 16_384
"""Bytes of the packets that gdbserver and its clients agree on."""
GDB_PACKETS = 16
_CHUNK = 262_144
_VARIABLE = {"name": "amount", "value": "Decimal('12.50')", "type": "Decimal", "variablesReference": 7}


class Asked(msgspec.Struct):
    """A request of the bench: `arguments.variablesReference` is the number of the answer, 0 the shortest."""

    command: str
    arguments: dict[str, int]


def dap_request(number: int) -> bytes:
    """What asks for an answer of DAP_SIZES; for a short one when the number is 0."""
    return dap.message(seq=1, type="request", command="variables", arguments={"variablesReference": number})


def gdb_request(number: int) -> bytes:
    """What asks for GDB_PACKETS packets; for a short one when the number is 0."""
    return b"$m7ffe0000,1ff0#02" if number else b"$?#3f"


def dap_answer(number: int) -> bytes:
    return b"".join(_variables(size) for size in DAP_SIZES.get(number, (120,)))


def gdb_answer(number: int) -> bytes:
    return (b"$" + b"5a" * (GDB_PACKET // 2 - 2) + b"#00") * GDB_PACKETS if number else b"$S05#b8"


def _variables(size: int) -> bytes:
    """The answer to a request of variables, of about so many bytes."""
    several = [_VARIABLE] * max(0, (size - 120) // len(msgspec.json.encode(_VARIABLE)))
    fields = {"type": "response", "request_seq": 1, "success": True, "command": "variables"}
    return dap.message(seq=100_000, **fields, body={"variables": several})


def dap_done() -> bytes:
    """The answer to DAP_DONE."""
    return dap.message(seq=1, type="response", request_seq=2, success=True, command="configurationDone")


def talk(client: socket.socket, answers: Mapping[int, bytes]) -> None:
    """DAP: an answer for each request."""
    reader = dap.Reader()
    decoder = msgspec.json.Decoder(Asked)
    while data := client.recv(_CHUNK):
        for raw in reader.feed(data):
            asked = decoder.decode(raw)
            if asked.command == "variables":
                client.sendall(answers[asked.arguments["variablesReference"]])
            else:
                client.sendall(dap_done())


def talk_gdb(client: socket.socket, answers: Mapping[int, bytes]) -> None:
    """The same; its requests need no acknowledgement, and their sums are not looked at."""
    unread = b""
    while data := client.recv(_CHUNK):
        *packets, unread = (unread + data).split(b"#")
        for packet in packets:
            client.sendall(answers[1 if b"$m" in packet else 0])


def main() -> None:
    by_dap = {number: dap_answer(number) for number in (0, *DAP_SIZES)}
    by_gdb = {number: gdb_answer(number) for number in (0, 1)}

    def serving(client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with client, contextlib.suppress(OSError):  # the client has left in the middle of an answer
            if client.recv(1, socket.MSG_PEEK) == b"$":
                talk_gdb(client, by_gdb)
            else:
                talk(client, by_dap)

    with socket.create_server(("127.0.0.1", 0)) as server:
        serve.announce("talker", f"127.0.0.1:{server.getsockname()[1]}")
        while True:
            threading.Thread(target=serving, args=(server.accept()[0],), daemon=True).start()


if __name__ == "__main__":
    main()

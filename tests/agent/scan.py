"""What stands open around a session: `unshare --net python -m tests.agent.scan debugpy|gdb DIRECTORY`.

Run in a network namespace of its own, where nothing is but what it starts; the service gets another one. Prints one
JSON list of three: what another user could connect to, before, while a client stands at a breakpoint, and after.
"""

import fcntl
import json
import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from demo.dap import Dap
from demo.world import World
from squash import procfs
from squash.calls import create_attachment, delete_attachment, get_attachment
from squash.client import Client
from squash.model import AttachmentSpec, DebugAttachment, State
from tests.agent import native
from tests.agent.targets import PROGRAM
from tests.eventually import eventually

_LISTENS = {"tcp": "0A", "tcp6": "0A", "udp": "07", "udp6": "07"}
"""The state, in these tables, of a socket that anybody may send to (proc(5))."""
_SET_FLAGS, _UP = 0x8914, 0x1


def open_doors(pid: int | str = "self") -> list[str]:
    """Ports, and unix sockets that any user could connect to, in the network namespace of a process."""
    return sorted({*_ports(pid), *_lax_sockets(pid)})


def _ports(pid: int | str) -> Iterator[str]:
    for table, state in _LISTENS.items():
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == state:
                yield f"{table} {fields[1]}"


def _lax_sockets(pid: int | str) -> Iterator[str]:
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split(maxsplit=7)
        listens = int(fields[3], 16) & 0x10000
        if listens and len(fields) == 8 and (fields[7].startswith("@") or _open_to_all(Path(fields[7]))):
            yield f"unix {fields[7]}"


def _open_to_all(path: Path) -> bool:
    """Whether somebody who is neither owner nor of the group may write to it and enter every directory above."""
    try:
        ways = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
        return ways and bool(path.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False


def loopback_up() -> None:
    """netdevice(7): a new network namespace has its loopback down."""
    with socket.socket() as sock:
        fcntl.ioctl(sock, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))


def attach(client: Client, namespace: str) -> DebugAttachment:
    spec = AttachmentSpec(attachment={"pod": "shop", "namespace": namespace})
    made = client.send(create_attachment(DebugAttachment(spec=spec)))
    found = client.send(get_attachment(made.name, wait=60))
    assert found.status.state is State.ATTACHED, found
    return found


def stand_at_a_breakpoint(address: str, debugger: str, program: Path, pid: int) -> list[list[str]]:
    """What is open meanwhile."""
    if debugger == "debugpy":
        line = next(n for n, text in enumerate(PROGRAM.read_text().splitlines(), 1) if "return first + second" in text)
        with Dap(address) as client:
            client.attach({str(PROGRAM): [line]})
            client.event("stopped")
            return [open_doors(), open_doors(pid)]
    steps = ("set sysroot /", f"target remote {address.removeprefix('unix:')}", "break seldom", "continue")
    words = [word for step in (*steps, "echo reached\\n") for word in ("-ex", step)]
    pipe = subprocess.PIPE
    with subprocess.Popen(["gdb", "-nx", "-q", *words, program], stdin=pipe, stdout=pipe, text=True) as gdb:
        assert gdb.stdout
        assert any("reached" in line for line in gdb.stdout)
        found = [open_doors(), open_doors(pid)]
        gdb.communicate("detach\nquit\n")
        return found


def main(debugger: str, directory: Path) -> None:
    loopback_up()
    program = native.build(directory)
    counters = directory / "counters"
    counters.write_bytes(bytes(24))
    argv = [sys.executable, str(PROGRAM), "sleep"] if debugger == "debugpy" else [str(program), str(counters)]
    with World("sq") as world:
        world.coordinator()
        world.agent()
        # The word that it is ready comes first; then the service itself, in a namespace with nothing in it.
        command = f"echo shop ready on nothing; exec unshare --net {' '.join(argv)}"
        service = world.service("shop", "demo/shop", ["sh", "-c", command])
        eventually(
            lambda: os.readlink(f"/proc/{service.pid}/ns/net"), lambda ns: ns != os.readlink("/proc/self/ns/net")
        )
        eventually(lambda: (s := procfs.stat(service.pid)) and s.comm not in ("sh", "unshare"))
        with world.client() as client:
            seen = [[open_doors(), open_doors(service.pid)]]
            found = attach(client, world.namespace)
            seen.append([open_doors(), open_doors(service.pid)])
            seen.append(stand_at_a_breakpoint(found.status.debug_server_address or "", debugger, program, service.pid))
            client.send(delete_attachment(found.name))
            eventually(lambda: list((world.directory / "agent" / "target").iterdir()), lambda left: not left)
            seen.append([open_doors(), open_doors(service.pid)])
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

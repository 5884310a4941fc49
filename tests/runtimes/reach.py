"""Which ports of the loopback accept a connection: `nsenter -t PID -n python -m tests.runtimes.reach`; a JSON list."""

import json
import socket
import subprocess
import sys
from pathlib import Path

LAST = 65_535
_ROOT = Path(__file__).parents[2]


def reachable(pid: int | None = None) -> list[int]:
    """By trying each of them, in this network namespace or in that of a process."""
    entering = ["nsenter", "-t", str(pid), "-n"] if pid else []
    command = [*entering, sys.executable, "-m", "tests.runtimes.reach"]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    found: list[int] = json.loads(done.stdout)
    return found


def main() -> None:
    accepting, port = [], 1
    while port <= LAST:
        with socket.socket() as sock:
            # Another address than the one tried, or it might reach itself (TCP's simultaneous open).
            sock.bind(("127.0.0.2", 0))
            # One socket serves until somebody accepts it.
            while port <= LAST and sock.connect_ex(("127.0.0.1", port)):
                port += 1
            if port <= LAST:
                accepting.append(port)
            port += 1
    sys.stdout.write(json.dumps(accepting))


if __name__ == "__main__":
    main()

"""A debugger's client as a process of its own, to be killed: `client DEBUGGER ADDRESS MOMENT SPOT`, the spot as JSON.

Says `connected`, `ready` and `stopped` as it gets there, as far as MOMENT, one of them; then takes leave when stdin
says `leave`, or hangs up at the end of stdin.
"""

import json
import sys
from pathlib import Path

from tests import drivers
from tests.drivers import Spot


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def words(debugger: str, address: str, moment: str, spot: Spot) -> list[str]:
    """The command that starts one."""
    told = json.dumps([*spot[:3], str(spot.program or "")])
    return [sys.executable, "-m", "tests.soak.client", debugger, address, moment, told]


def main() -> None:
    debugger, address, moment, told = sys.argv[1:]
    file, line, function, program = json.loads(told)
    with drivers.connect(debugger, address) as client:
        say("connected")
        if moment != "connected":
            client.begin(Spot(file, line, function, Path(program) if program else None))
            say("ready")
        if moment == "stopped":
            client.stopped()
            say("stopped")
        if sys.stdin.readline().strip() == "leave":
            client.leave()


if __name__ == "__main__":
    main()

"""A DAP client as a process of its own, to be killed: `dap_client ADDRESS FILE LINE MOMENT`.

Says `connected`, `ready` and `stopped` as it gets there, as far as MOMENT, one of them; then does what stdin says:
`leave` goes on and disconnects. At the end of stdin it just ends.
"""

import sys

from demo.dap import Dap


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    address, file, line, moment = sys.argv[1:]
    with Dap(address, timeout=60) as client:
        thread = None
        if moment == "connected":
            client.ask("initialize", adapterID="squash")
            say("connected")
        else:
            client.attach({file: [int(line)]})
            say("ready")
        if moment == "stopped":
            thread = client.event("stopped")["threadId"]
            say("stopped")
        if sys.stdin.readline().strip() == "leave":
            if thread is not None:
                client.ask("continue", threadId=thread)
            client.ask("disconnect")


main()

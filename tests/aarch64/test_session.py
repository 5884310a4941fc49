"""A client's visit where debugpy does not reach threads that run already: those that start later are stopped."""

import asyncio
import subprocess
import sys
from pathlib import Path

from agent.debuggers.debugpy import Debugpy
from agent.process import Process
from demo.dap import Dap
from squash import procfs
from tests.agent.targets import session, target
from tests.slowness import SLOWNESS

SERVICE = """
import sys, threading
def price(amount):
    total = amount * 3
    print(total, flush=True)  # line 5
print("up", flush=True)
for line in sys.stdin:
    thread = threading.Thread(target=price, args=(int(line),))
    thread.start()
    thread.join()
"""


async def test_a_breakpoint_is_hit_in_a_thread_that_starts_later(short: Path) -> None:
    program, pipe = short / "service.py", subprocess.PIPE
    program.write_text(SERVICE)
    with subprocess.Popen([sys.executable, program], stdin=pipe, stdout=pipe, text=True, bufsize=1) as service:
        try:
            assert service.stdin
            assert service.stdout
            assert service.stdout.readline() == "up\n"
            process = Process.read(service.pid)
            assert process
            place = target(process, short)
            server = await Debugpy().attach(place)
            assert [tried.strategy for tried in place.attempts][-1] == "ptrace, direct"

            def visit(address: str) -> str:
                assert service.stdin
                assert service.stdout
                with Dap(address, 20.0 * SLOWNESS) as client:
                    found = client.attach({str(program): [5]})
                    assert [line["verified"] for line in found[str(program)]] == [True]
                    service.stdin.write("5\n")
                    stopped = client.event("stopped")
                    frame = client.ask("stackTrace", threadId=stopped["threadId"])["stackFrames"][0]
                    assert (frame["name"], frame["line"]) == ("price", 5)
                    client.ask("continue", threadId=stopped["threadId"])
                    return service.stdout.readline()

            async with session(Debugpy(), server, short) as address:
                assert await asyncio.to_thread(visit, address) == "15\n"
            await server.detach()
            service.stdin.write("7\n")
            assert await asyncio.to_thread(service.stdout.readline) == "21\n"
            assert (procfs.status(service.pid) or {})["TracerPid"] == "0"
        finally:
            service.kill()

"""Which process of a real container is taken, and what happens when the container is started again meanwhile."""

import subprocess
import sys
from pathlib import Path

from agent.choice import pick
from agent.debuggers.debugpy import Debugpy
from agent.process import Process
from demo.world import BIN, World
from squash import procfs
from squash.calls import create_attachment, get_attachment
from squash.model import AttachmentSpec, DebugAttachment, Phase, State
from squash.reasons import Reason
from tests.agent.targets import NAMESPACE
from tests.eventually import eventually

WORKER = "import time\nprint('shop ready on nothing', flush=True)\nwhile True: time.sleep(0.01)\n"
SUPERVISOR = """
import signal, subprocess, sys
for _ in range(2):
    subprocess.Popen([sys.executable, sys.argv[1]])
signal.pause()
"""
DEAF = "print('shop ready on nothing', flush=True)\nwhile True: pow(7, 10 ** 8)\n"
"""It calculates for minutes without letting anybody else use the interpreter."""

APP = """
async def app(scope, receive, send):
    pass
"""


def wanted(pod: str) -> DebugAttachment:
    return DebugAttachment(spec=AttachmentSpec(attachment={"pod": pod, "namespace": NAMESPACE}))


def test_the_oldest_worker_of_a_supervisor_is_taken_and_told(world: World) -> None:
    coordinator = world.coordinator()
    world.agent()
    supervisor, worker = world.directory / "supervisord", world.directory / "shop.py"
    supervisor.write_text(SUPERVISOR)
    worker.write_text(WORKER)
    shell = f"{sys.executable} {supervisor} {worker}; exit 1"
    app = world.service("shop", "demo/shop", ["sh", "-c", shell])
    (parent,) = procfs.children(app.pid)
    assert eventually(lambda: len(procfs.children(parent)) == 2)
    with world.client() as client:
        made = client.send(create_attachment(wanted("shop")))
        status = client.send(get_attachment(made.name, wait=30)).status
    assert status.state is State.ATTACHED, status.message
    assert status.pid == min(procfs.children(parent))
    assert f"process {status.pid} (python" in (status.choice or "")
    assert "the oldest of 2 that suit equally" in (status.choice or "")
    assert f"{parent} (python3 supervisord, starts others)" in (status.choice or "").replace("python3.11", "python3")
    told = subprocess.run(
        [str(BIN / "squashctl"), "explain", made.name],
        capture_output=True,
        text=True,
        check=True,
        env=world.environment({"SQUASH_SERVER_URL": coordinator.where}),
    )
    assert f"chose {status.choice}" in told.stdout
    assert told.stdout.index("chose process") < told.stdout.index("tried preflight") < told.stdout.index("tried ptrace")


def test_a_worker_of_uvicorn_is_taken_and_no_helper_of_it(tmp_path: Path) -> None:
    """The workers are not the oldest of its children: multiprocessing has started one for itself before."""
    (tmp_path / "shopapp.py").write_text(APP)
    argv = [sys.executable, "-m", "uvicorn", "shopapp:app", "--workers", "2", "--port", "0"]
    with subprocess.Popen(argv, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            said = (line for line in server.stderr if "Started server process" in line)
            workers = {int(next(said).rpartition("[")[2].partition("]")[0]) for _ in range(2)}
            found = [Process.read(pid) for pid in (server.pid, *sorted(procfs.children(server.pid)))]
            assert len(found) > 1 + len(workers)
            spec = AttachmentSpec(attachment={})
            choice = pick([process for process in found if process], {"debugpy": Debugpy()}, spec)
        finally:
            server.terminate()
            server.communicate()
    assert choice.process.pid in workers, choice.why


def test_a_container_that_is_started_again_before_the_attach(world: World) -> None:
    """Its turn comes when the first attach has given up; the process that it had chosen is another one by then."""
    world.coordinator()
    world.agent("--concurrency", "1", "--attach-timeout", "4")
    world.service("deaf", "demo/deaf", [sys.executable, "-c", DEAF])
    first = world.service("shop", "demo/shop", [sys.executable, "-c", WORKER])
    with world.client() as client:
        busy = client.send(create_attachment(wanted("deaf")))
        assert eventually(lambda: client.send(get_attachment(busy.name)).status.phase is Phase.STARTING)
        made = client.send(create_attachment(wanted("shop")))
        assert eventually(lambda: client.send(get_attachment(made.name)).status.choice)
        first.kill()
        second = world.service("shop", "demo/shop", [sys.executable, "-c", WORKER])
        status = client.send(get_attachment(made.name, wait=30)).status
        assert (status.state, status.reason) == (State.ERROR, Reason.PROCESS_GONE)
        assert f"process {first.pid} is gone; the container was started again meanwhile, as process {second.pid}" in (
            status.message or ""
        )
        assert client.send(get_attachment(busy.name)).status.reason is Reason.ATTACH_TIMEOUT
        again = client.send(create_attachment(wanted("shop")))
        assert client.send(get_attachment(again.name, wait=30)).status.pid == second.pid

"""An agent as a process, that refuses before it touches anything, and says why."""

import pytest

from demo.world import BIN, World
from squash.calls import create_attachment, get_attachment
from squash.model import AttachmentSpec, DebugAttachment, State
from squash.reasons import Reason
from tests.agent.preflight.subjects import NOBODY, ROOT, lacking, python
from tests.agent.targets import NAMESPACE

SERVICE = "import time; print('app ready on nothing', flush=True); time.sleep(1000)"


def attach(world: World, debugger: str) -> DebugAttachment:
    place = {"pod": "shop", "namespace": NAMESPACE}
    with world.client() as client:
        wanted = DebugAttachment(spec=AttachmentSpec(attachment=place, debugger=debugger))
        return client.send(get_attachment(client.send(create_attachment(wanted)).name, wait=30))


@pytest.mark.skipif(not ROOT, reason="takes root to become somebody else, or less")
@pytest.mark.parametrize("debugger", ["gdb", "debugpy"])
def test_what_is_refused_is_told_and_the_process_is_left_alone(world: World, debugger: str) -> None:
    coordinator = world.coordinator()
    agent = [str(BIN / "squash-agent"), "--node", "here", "--runtime-dir", str(world.directory / "agent")]
    world.start("agent", [*lacking("kill"), *agent, "--server-url", coordinator.where], stage=3)
    service = world.service("shop", "demo/shop", [*NOBODY, *python(SERVICE)])
    status = attach(world, debugger).status
    assert (status.state, status.reason) == (State.ERROR, Reason.CAPABILITY_MISSING)
    assert "CAP_KILL to signal it" in (status.message or "")
    (tried,) = status.attempts or []
    assert (tried.strategy, tried.reason) == ("preflight", Reason.CAPABILITY_MISSING)
    assert status.pid == service.pid
    assert service.process.poll() is None


def test_what_is_doubtful_is_told_and_done(world: World) -> None:
    """Python's own executable is optimised, and gdb is not what it is debugged with as a rule."""
    world.coordinator()
    world.agent()
    world.service("shop", "demo/shop", python(SERVICE))
    status = attach(world, "gdb").status
    assert status.state is State.ATTACHED, status.message
    preflight, gdbserver = status.attempts or []
    assert (preflight.strategy, preflight.reason, gdbserver.strategy) == ("preflight", None, "gdbserver")
    assert "symbols: the executable" in (preflight.message or "")
    assert "symbols: the executable" in (status.message or "")

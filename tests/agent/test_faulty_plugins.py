"""Debuggers of others, which may raise anything: in a real agent, seen from outside."""

from pathlib import Path

import pytest

from demo.world import Child, World
from squash import procfs
from squash.calls import create_attachment, get_attachment
from squash.model import DebugAttachment, Phase, State
from squash.reasons import Reason
from tests.agent.test_agent import phase_of, service, wanted

PLUGINS = """
import asyncio
from pathlib import Path
from agent.preflight.needs import Needs

class Faulty:
    protocol = "dap"
    needs = Needs()
    def examine(self, facts): return []
    def claim(self, process): return 0.0
    async def recover(self, directory):
        note = directory / "put"
        if note.exists(): Path(note.read_text()).unlink(missing_ok=True)
    async def attach(self, target):
        put = target.directory.parent.parent / f"put by {self.name}"
        put.write_text("into the container")
        (target.directory / "put").write_text(str(put))
        return await self.go_on(target)

class Needless(Faulty):
    name = "needless"
    @property
    def needs(self): raise AttributeError("needs")

class Attaching(Faulty):
    name = "attaching"
    async def go_on(self, target): raise ValueError("what is this?")

class Attempting(Faulty):
    name = "attempting"
    async def go_on(self, target): target.attempts.append(target)

class Wordy(Faulty):
    name, protocol = "wordy", 5
    async def go_on(self, target): raise ValueError("what is this?")

class Detaching(Faulty):
    name = "detaching"
    async def go_on(self, target): return Server()

class Recovering(Faulty):
    name = "recovering"
    async def go_on(self, target): raise ValueError("what is this?")
    async def recover(self, directory): raise ValueError("and this?")

class Server:
    async def connect(self, terms=None): raise OSError("nobody")
    async def disconnected(self): pass
    async def ended(self): await asyncio.Event().wait()
    async def detach(self): raise LookupError("where am I?")
"""
NAMES = ("needless", "attaching", "attempting", "wordy", "detaching", "recovering")


@pytest.fixture
def plugins(tmp_path: Path) -> dict[str, str]:
    """An environment in which they are installed."""
    (tmp_path / "faulty.py").write_text(PLUGINS)
    about = tmp_path / "faulty-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1\n")
    points = "".join(f"{name} = faulty:{name.capitalize()}\n" for name in NAMES)
    (about / "entry_points.txt").write_text(f"[squash.debuggers]\n{points}")
    return {"PYTHONPATH": str(tmp_path)}


def test_whatever_a_plug_in_raises_ends_its_attachment(world: World, plugins: dict[str, str]) -> None:
    world.coordinator()
    agent, app = world.agent("--first-client", "1", environment=plugins), service(world)
    with world.client() as client:
        for name, said in (
            ("needless", "AttributeError('needs')"),
            ("attaching", "ValueError('what is this?')"),
            ("attempting", "AttributeError("),
            ("wordy", "ValueError('what is this?')"),
            ("recovering", "ValueError('what is this?')"),
        ):
            made = client.send(create_attachment(wanted(debugger=name)))
            check_told(client.send(get_attachment(made.name, wait=30)), said)
        made = client.send(create_attachment(wanted(debugger="detaching")))
        assert client.send(get_attachment(made.name, wait=30)).status.state is State.ATTACHED
        # No client comes: it is detached by and by.
        check_told(phase_of(client, made.name, Phase.DETACHED), "LookupError('where am I?')")
    check_cleared(world, app)
    assert agent.log.read_text().count("Traceback") >= len(NAMES)
    assert agent.stop() == 0


def check_told(found: DebugAttachment, said: str) -> None:
    status = found.status
    assert (status.state, status.reason, status.phase) == (State.ERROR, Reason.INTERNAL, Phase.DETACHED)
    assert said in (status.message or "")


def check_cleared(world: World, app: Child) -> None:
    """All but what its own debugger cannot take away: the agent's next life tries again."""
    root = world.directory / "agent"
    assert [note.read_text() for note in (root / "target").glob("*.debugger")] == ["recovering"]
    assert [put.name for put in root.glob("put by *")] == ["put by recovering"]
    status = procfs.status(app.pid)
    assert status
    assert status["TracerPid"] == "0"

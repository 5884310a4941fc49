"""A disk without room for what the agent notes: it says so, and leaves nothing that is half done."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agent.inner import Inner
from agent.places import Places
from agent.process import Process
from demo.world import BIN, Child, World
from squash.errors import SquashError
from squash.model import State
from squash.reasons import Reason
from tests.agent.test_agent import attach, service
from tests.agent.test_inner import Container

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system")
SMALL = 'mkdir "$1"; mount -t tmpfs -o size=16k,mode=711 tmpfs "$1"; exec "$2" --runtime-dir "$1" --server-url "$3"'


@contextmanager
def full() -> Iterator[None]:
    """Meanwhile nothing that this process writes to a file finds room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(directory: Path) -> Path:
    """With a file that takes all the room that there is."""
    file = directory / "filler"
    with file.open("wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(4096))
    return file


def on_a_small_disk(world: World, coordinator: Child) -> tuple[Child, Path]:
    """An agent whose directory is on a disk of its own, and where that can be seen."""
    run = world.directory / "small"
    words = [str(run), str(BIN / "squash-agent"), coordinator.where]
    argv = ["unshare", "--mount", "sh", "-ec", f"{SMALL} --node here", "sh", *words]
    agent = world.start("agent", argv, stage=3)
    return agent, Path(f"/proc/{agent.pid}/root{run}")


def test_an_agent_says_at_its_start_that_it_cannot_write(short: Path) -> None:
    argv = ["prlimit", "--fsize=0", str(BIN / "squash-agent"), "--runtime-dir", str(short / "run")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 2
    assert f"runtime_dir = '{short / 'run'}' cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr


@needs_root
def test_an_attach_without_room_says_so_and_leaves_nothing(world: World) -> None:
    agent, directory = on_a_small_disk(world, world.coordinator())
    service(world)
    filler = fill(directory)
    with world.client() as client:
        status = attach(client, debugger="gdb").status
        assert (status.state, status.reason) == (State.ERROR, Reason.RUNTIME_DIR)
        assert "small/target/" in (status.message or "")
        assert "cannot be written: No space left on device" in (status.message or "")
        assert os.listdir(directory / "target") == []
        filler.unlink()
        assert attach(client, debugger="gdb").status.state is State.ATTACHED
    assert agent.stop() == 0
    assert "Traceback" not in agent.log.read_text()


def test_a_place_is_made_whole_or_not_at_all(short: Path) -> None:
    places = Places(short / "run")
    with full(), pytest.raises(SquashError, match="cannot be written") as refused:
        places.make("gdb")
    assert refused.value.reason is Reason.RUNTIME_DIR
    assert list((short / "run/target").iterdir()) == []
    places.close()


@pytest.mark.parametrize("torn", [b"", b"0123456", bytes(16), b"\xff" * 16])
def test_what_is_no_identity_is_replaced(torn: bytes, short: Path) -> None:
    Places(short / "run").close()
    (short / "run/identity").write_bytes(torn)
    first = Places(short / "run")
    assert first.identity.encode() != torn
    first.close()
    second = Places(short / "run")
    assert (short / "run/identity").read_text() == second.identity == first.identity
    second.close()


@needs_root
async def test_nothing_is_put_where_it_cannot_be_noted(short: Path) -> None:
    container, own = Container(), short / "ab12cd34"
    own.mkdir()
    try:
        inner = Inner(await container.process(), own)
        with full(), pytest.raises(SquashError, match=r"ab12cd34\.inside' cannot be written") as refused:
            inner.make()
        assert refused.value.reason is Reason.RUNTIME_DIR
        assert os.listdir(container.dev) == []
        inner.remove()
    finally:
        container.close()


def test_the_disk_is_named_where_a_process_shares_it(short: Path) -> None:
    process = Process.read(os.getpid())
    assert process
    inner = Inner(process, short)
    inner.make()
    with full(), pytest.raises(SquashError, match="job' cannot be written") as refused:
        inner.write("job", b"a job")
    assert refused.value.reason is Reason.RUNTIME_DIR
    inner.remove()
    assert list(short.iterdir()) == []

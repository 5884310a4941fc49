"""A Docker engine of one's own, with other programs for `dockerd` and `ip`: what is left when things go wrong."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from demo import engine, keeper
from demo.engine import EngineError
from demo.world import ROOT
from squash import procfs
from tests.eventually import eventually

DOCKERD = """
import os, signal, socket
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
    notices.sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
while True:
    signal.pause()
"""
PID = "open(os.path.join(os.path.dirname(os.environ['NOTIFY_SOCKET']), 'pid'), 'w').write(str(os.getpid()))"
IP = """
import os, sys
with open(os.environ["ASKED"], "a") as asked:
    print(*sys.argv[1:3], file=asked)
if os.environ.get("REFUSED") in sys.argv:
    sys.exit("RTNETLINK answers: Operation not permitted")
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on PATH; it has `ip`."""
    found = tmp_path / "bin"
    found.mkdir()
    monkeypatch.setenv("PATH", str(found))
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    put(found / "ip", IP)
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    found = tmp_path / "e"
    found.mkdir()
    return found


def put(program: Path, source: str) -> None:
    program.write_text(f"#!{sys.executable}\n{source}")
    program.chmod(0o755)


def asked(programs: Path) -> list[str]:
    return (programs.parent / "asked").read_text().splitlines()


def test_an_engine_that_does_not_end_is_killed_and_the_rest_is_cleared_away(
    programs: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(programs / "dockerd", DOCKERD)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    others = set(children.read_text().split())
    with keeper.kept(base) as host:
        assert host == f"unix://{base}/docker.sock"
        mine = set(children.read_text().split()) - others
        assert mine
        monkeypatch.setattr(keeper, "START", 0.2)
    assert not base.exists()
    assert asked(programs)[-1] == "link delete"
    assert not mine & set(children.read_text().split())


def test_no_dockerd(programs: Path, base: Path) -> None:
    with (
        pytest.raises(EngineError, match=r"^dockerd is not on PATH; as root: scripts/setup tools dockerd$"),
        engine.running(base),
    ):
        pass
    assert not base.exists()
    assert asked(programs)[-1] == "link delete"


def test_no_ip(programs: Path, base: Path) -> None:
    (programs / "ip").unlink()
    with (
        pytest.raises(EngineError, match=r"^ip is not on PATH; as root: scripts/setup tools ip$"),
        engine.running(base),
    ):
        pass
    assert not base.exists()


def test_no_bridge(programs: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSED", "add")
    refused = r"^ip link add sq\w+ type bridge: RTNETLINK answers: Operation not permitted$"
    with pytest.raises(EngineError, match=refused), engine.running(base):
        pass
    assert not base.exists()
    assert asked(programs) == ["link add"]


USER = """
import sys
from pathlib import Path
from demo import engine
with engine.running(Path(sys.argv[1])):
    print("here", flush=True)
    sys.stdin.read()
"""


def test_whose_user_is_killed_is_cleared_away(programs: Path, base: Path) -> None:
    put(programs / "dockerd", DOCKERD.replace("signal.signal(signal.SIGTERM, signal.SIG_IGN)", PID))
    user = subprocess.Popen(
        [sys.executable, "-c", USER, base], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with user:
        assert user.stdout
        assert user.stdout.readline() == "here\n"
        daemon = int((base / "pid").read_text())
        assert procfs.stat(daemon)
        user.kill()
    assert not eventually(base.exists, lambda there: not there, 20)
    assert not eventually(lambda: procfs.stat(daemon), lambda found: not found, 20)
    assert asked(programs)[-1] == "link delete"

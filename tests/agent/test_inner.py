"""Directories in containers whose user is root and means ill: the agent's own files are not touched."""

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.homes import room
from agent.inner import Inner, take_out_left_behind
from agent.process import Process
from squash.errors import SquashError
from squash.reasons import Reason
from squash.tasks import spawn

from .native import until
from .preflight.subjects import lacking

CONTAINER = "mount -t tmpfs {options} tmpfs /dev && mount -t tmpfs tmpfs /run && exec sleep 1000"
CLOSED = "for home in dev run tmp; do mount -t tmpfs -o mode=700,uid=65534 tmpfs /$home; done; exec sleep 1000"
"""All that is its user's, who is not root."""
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a mount namespace like a container's")
SECRET = "the agent's own"


class Container:
    """A process with a /dev and a /run of its own, in which the tests do what its root could."""

    def __init__(self, options: str = "-o mode=755", user: int = 0, script: str = CONTAINER) -> None:
        script = script.format(options=options)
        if user:
            script = script.replace("exec", f"exec setpriv --reuid {user} --regid {user} --clear-groups")
        self.child = subprocess.Popen(["unshare", "--mount", "sh", "-c", script])

    async def process(self) -> Process:
        await until(lambda: Path(f"/proc/{self.child.pid}/comm").read_text() == "sleep\n")
        found = Process.read(self.child.pid)
        assert found
        return found

    @property
    def dev(self) -> Path:
        return Path(f"/proc/{self.child.pid}/root/dev")

    def close(self) -> None:
        self.child.kill()
        self.child.wait()


@pytest.fixture
def container() -> Iterator[Container]:
    found = Container()
    yield found
    found.close()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """An attachment's directory, and beside it a file that is nobody's business."""
    (tmp_path / "secret").write_text(SECRET)
    made = tmp_path / "ab12cd34"
    made.mkdir(mode=0o700)
    return made


def owner(place: Path) -> int:
    return place.stat().st_uid


def brought() -> list[tuple[Path, bytes]]:
    return [(Path("__init__.py"), b"ours"), (Path("deep/er/module.py"), b"ours, too")]


async def test_what_is_made_is_whole_and_gone_afterwards(container: Container, own: Path) -> None:
    inner = Inner(await container.process(), own)
    inner.make()
    assert inner.inside == "/dev/squash/ab12cd34"
    assert inner.provide(own, "package", brought) == "/dev/squash/package"
    inner.write("job", b"a job")
    with inner.door("agent.sock"):
        shared = container.dev / "squash"
        assert (shared / "package/deep/er/module.py").read_bytes() == b"ours, too"
        assert stat.S_IMODE((shared / "package/deep/er").stat().st_mode) == 0o755
        assert stat.S_IMODE((shared / "package/deep/er/module.py").stat().st_mode) == 0o644
        assert stat.S_IMODE((shared / "ab12cd34").stat().st_mode) == 0o700
        assert stat.S_IMODE((shared / "ab12cd34/agent.sock").stat().st_mode) == 0o600
        assert sorted(os.listdir(shared)) == ["ab12cd34", "package"]
    inner.remove()
    inner.remove()
    assert os.listdir(container.dev) == []


async def test_the_last_one_out_takes_what_all_share(container: Container, own: Path) -> None:
    process, other = await container.process(), own.with_name("00000001")
    first, second = Inner(process, own), Inner(process, other)
    for inner in (first, second):
        inner.make()
        inner.provide(own, "package", brought)
    first.thin("package", ["__init__.py"])
    first.remove()
    assert sorted(os.listdir(container.dev / "squash")) == ["00000001", "package"]
    assert (container.dev / "squash/package/__init__.py").exists(), "somebody else had still to read it"
    second.thin("package", ["__init__.py"])
    assert not (container.dev / "squash/package/__init__.py").exists()
    container.close()
    second.remove()


async def test_a_planted_link_is_replaced_and_not_followed(container: Container, own: Path) -> None:
    process, secret = await container.process(), own.with_name("secret")
    package = container.dev / "squash/package"
    (package / "deep").mkdir(parents=True)
    for name in ("__init__.py", ".__init__.py", "deep/er"):
        (package / name).symlink_to(secret)
    (container.dev / "squash/00000001").mkdir()
    inner = Inner(process, own)
    inner.make()
    with pytest.raises(SquashError, match="cannot be copied to '/dev/squash/package'"):
        inner.provide(own, "package", brought)
    assert secret.read_text() == SECRET
    (container.dev / "squash/00000001").rmdir()
    inner.provide(own, "package", brought)
    assert not (package / "__init__.py").is_symlink()
    assert (package / "deep/er/module.py").read_bytes() == b"ours, too"
    assert secret.read_text() == SECRET
    inner.remove()


async def test_a_planted_home_leads_nowhere(container: Container, own: Path) -> None:
    process = await container.process()
    elsewhere = own.with_name("elsewhere")
    elsewhere.mkdir()
    (container.dev / "squash").symlink_to(elsewhere)
    assert room(process, "/dev").obstacle == "squash in there is not ours"
    inner = Inner(process, own)
    inner.make()
    assert inner.inside == "/run/squash/ab12cd34"
    inner.remove()
    assert os.listdir(elsewhere) == []
    (container.dev / "squash").unlink()


async def test_links_made_meanwhile_lead_nowhere(container: Container, own: Path) -> None:
    """All that the agent does later is done where it was made, or not at all."""
    secret = own.with_name("secret")
    inner = Inner(await container.process(), own)
    inner.make()
    inner.provide(own, "package", lambda: [*brought(), (Path("evil/secret"), b"")])
    shared = container.dev / "squash"
    (shared / "package/evil/secret").unlink()
    (shared / "package/evil").rmdir()
    (shared / "package/evil").symlink_to(own.parent)
    inner.thin("package", ["evil/secret", "../../secret", "/secret", "ab12cd34", ""])
    assert secret.read_text() == SECRET
    (shared / "ab12cd34").rename(shared / "moved")
    (shared / "ab12cd34").symlink_to(own.parent)
    inner.write("job", b"a job")
    inner.withdraw("secret")
    with inner.door("agent.sock"):
        assert sorted(os.listdir(shared / "moved")) == ["agent.sock", "job"]
        assert sorted(os.listdir(own.parent)) == ["ab12cd34", "ab12cd34.inside", "secret"]
        shared.rename(container.dev / "away")
        shared.symlink_to(own.parent)
        inner.remove()
    assert secret.read_text() == SECRET


async def test_who_sends_names_that_were_not_put_in(container: Container, own: Path) -> None:
    inner = Inner(await container.process(), own)
    inner.make()
    inner.provide(own, "package", brought)
    kept = container.dev / "squash/package/kept"
    kept.write_text("")
    inner.thin("package", ["kept", "__init__.py"])
    assert kept.exists()
    assert not kept.with_name("__init__.py").exists()
    inner.remove()


async def test_notes_of_the_processs_user_are_not_believed(own: Path) -> None:
    """In the agent's own file system the directory itself is given away."""
    victim = own.with_name("victim")
    victim.mkdir()
    with subprocess.Popen(["setpriv", "--reuid", "1000", "sleep", "1000"]) as child:
        try:
            await until(lambda: Path(f"/proc/{child.pid}/comm").read_text() == "sleep\n")
            process = Process.read(child.pid)
            assert process
            inner = Inner(process, own)
            inner.make()
            inner.door("agent.sock").close()
            assert owner(own) == 1000
            mount = os.readlink("/proc/self/ns/mnt")
            (own / "inside.json").write_text(f'{{"mount": "{mount}", "inside": "{victim}", "home": "{victim}"}}')
            take_out_left_behind(own)
            assert victim.is_dir()
            inner.remove()
        finally:
            child.kill()


async def test_notes_lead_to_what_an_earlier_life_left(container: Container, own: Path) -> None:
    inner = Inner(await container.process(), own)
    inner.make()
    inner.provide(own, "package", brought)
    shutil.rmtree(own)
    take_out_left_behind(own)
    assert os.listdir(container.dev) == []
    inner.remove()


@pytest.mark.parametrize("options", ["-o mode=755,noexec", "-o mode=755,size=1m"])
async def test_a_socket_takes_no_room_for_programs(options: str, own: Path) -> None:
    container = Container(options)
    try:
        process = await container.process()
        for files, home in ((0, "/dev"), (6_000_000, "/run")):
            inner = Inner(process, own)
            inner.make(files)
            assert inner.inside == f"{home}/squash/ab12cd34"
            inner.remove()
    finally:
        container.close()


async def test_who_prepares_for_long_keeps_nobody_waiting(container: Container, own: Path) -> None:
    process, begun, go_on = await container.process(), threading.Event(), threading.Event()

    def slowly() -> list[tuple[Path, bytes]]:
        begun.set()
        assert go_on.wait(20)
        return brought()

    slow, quick = Inner(process, own), Inner(process, own.with_name("00000001"))
    slow.make()
    providing = spawn(asyncio.to_thread(slow.provide, own, "package", slowly), "slow one")
    assert await asyncio.to_thread(begun.wait, 20)
    quick.make()
    quick.provide(own, "package", brought)
    quick.remove()
    go_on.set()
    await providing
    assert (container.dev / "squash/package/__init__.py").exists()
    slow.remove()


async def test_a_directory_of_somebody_else_is_not_used(container: Container, own: Path) -> None:
    process = await container.process()
    (container.dev / "squash").mkdir()
    os.chown(container.dev / "squash", 1000, 1000)
    assert room(process, "/dev").obstacle == "squash in there is not ours"
    inner = Inner(process, own)
    inner.make()
    assert inner.inside == "/run/squash/ab12cd34"
    inner.remove()


async def test_given_up_before_it_was_made(container: Container, own: Path) -> None:
    inner = Inner(await container.process(), own)
    inner.remove()
    with pytest.raises(SquashError, match="given up"):
        inner.make()
    assert os.listdir(container.dev) == []


async def test_a_container_that_is_gone(container: Container, own: Path) -> None:
    process = await container.process()
    inner = Inner(process, own)
    container.close()
    with pytest.raises(SquashError):
        inner.make()
    inner.remove()


@pytest.mark.parametrize("dropped", ["chown", "dac_override"])
async def test_a_capability_that_is_missing_is_named(dropped: str, own: Path) -> None:
    container = Container(user=65534, script=CLOSED if dropped == "dac_override" else CONTAINER)
    script = """if True:
        import sys
        from pathlib import Path
        from agent.inner import Inner
        from agent.process import Process
        from squash.errors import SquashError
        inner = Inner(Process.read(int(sys.argv[1])), Path(sys.argv[2]))
        try:
            inner.make()
            inner.write("job", b"a job")
        except SquashError as refusal:
            print(refusal.reason, refusal.message)
        finally:
            inner.remove()
    """
    try:
        pid = (await container.process()).pid
        argv = [*lacking(dropped), sys.executable, "-c", script, str(pid), str(own)]
        said = await asyncio.to_thread(subprocess.check_output, argv, text=True)
    finally:
        container.close()
    assert said.startswith(Reason.CAPABILITY_MISSING)
    assert said.endswith(f"that takes CAP_{dropped.upper()}\n")

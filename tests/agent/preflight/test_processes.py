"""The preflight on real processes, by `squash-agent doctor` as another program or by the facts themselves."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.debuggers.debugpy import Debugpy
from agent.debuggers.gdb import Gdb
from agent.homes import HOMES
from agent.preflight import gather
from agent.preflight.facts import Seccomp
from agent.preflight.finding import Level, refusal, warnings
from agent.preflight.needs import MEGABYTE, Needs
from agent.preflight.run import examine
from agent.process import Process
from demo.world import BIN
from squash.reasons import Reason
from tests.agent.preflight import subjects
from tests.agent.preflight.subjects import NOBODY, ROOT, doctor, lacking, may_unshare, python, running, traced, trouble

as_root = pytest.mark.skipif(not ROOT, reason="takes root to become somebody else, or less")
CGROUP = Path("/sys/fs/cgroup/memory")
SLEEP = "echo up; exec sleep 1000"


def settled(process: Process, comm: str) -> Process:
    """The process once it has become the program that its shell was to execute."""
    while (found := Process.read(process.pid)) and found.comm != comm:
        os.sched_yield()
    assert found
    return found


def test_an_ordinary_process_is_well() -> None:
    with running(python()) as process:
        status, found = doctor("--pid", str(process.pid))
        assert status == 0
        assert found["process"]["debugger"] == "debugpy"
        assert trouble(found["process"]["findings"]) == {}
        (version,) = [each for each in found["process"]["findings"] if each["check"] == "version"]
        assert version["message"] == f"Python 3.{sys.version_info.minor}"
        assert process.tracer == 0


@pytest.mark.parametrize("debugger", ["debugpy", "gdb"])
def test_another_tracer_is_named(debugger: str) -> None:
    with running(python()) as process:
        with traced(process) as tracer:
            status, found = doctor("--pid", str(process.pid), "--debugger", debugger)
            refused = trouble(found["process"]["findings"])["tracer"]
            assert (status, refused["reason"]) == (1, Reason.TRACED_BY_OTHER)
            assert f"process {tracer} (python" in refused["message"]
        assert doctor("--pid", str(process.pid), "--debugger", debugger)[0] == 0


def test_a_filter_of_the_process_is_seen_and_no_matter() -> None:
    with running(python(subjects.FILTERED)) as process:
        facts = gather.facts(process)
        assert facts.target.seccomp is Seccomp.FILTER
        assert refusal(examine(Debugpy(), process)) is None


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the filter of this test is of x86-64")
def test_a_filter_of_the_agent_that_refuses_ptrace() -> None:
    with running(python()) as process:
        status, found = doctor("--pid", str(process.pid), by=subjects.under_filter(subjects.PTRACE))
        assert status == 1
        assert trouble(found["node"])["seccomp"]["reason"] == Reason.SECCOMP_DENIED
        assert trouble(found["process"]["findings"])["seccomp"]["reason"] == Reason.SECCOMP_DENIED
        assert trouble(found["debuggers"]["gdb"])["reach"]["level"] == "refused"
        assert trouble(found["debuggers"]["jdwp"]) == {}


@as_root
@pytest.mark.parametrize(
    ("debugger", "dropped", "named"),
    [
        ("gdb", ["kill"], ["CAP_KILL"]),
        ("gdb", ["sys_ptrace"], ["CAP_SYS_PTRACE"]),
        ("debugpy", ["chown"], ["CAP_CHOWN"]),
        ("debugpy", ["dac_override", "chown", "kill"], ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL"]),
    ],
)
def test_what_the_agent_lacks_for_another_users_process(debugger: str, dropped: list[str], named: list[str]) -> None:
    with running([*NOBODY, *python()]) as process:
        assert process.uid == 65534
        status, found = doctor("--pid", str(process.pid), "--debugger", debugger, by=lacking(*dropped))
        refused = trouble(found["process"]["findings"])["capabilities"]
        assert (status, refused["reason"]) == (1, Reason.CAPABILITY_MISSING)
        assert all(name in refused["message"] for name in named)
        assert refused["message"].count("CAP_") == len(named)
        reach = trouble(found["debuggers"][debugger])["reach"]
        assert all(name in reach["remedy"] for name in named)
        assert process.tracer == 0


@as_root
def test_what_the_agent_lacks_does_not_matter_for_its_own_users_process() -> None:
    """It must only have no more capabilities than the agent (ptrace(2))."""
    bare = lacking("kill", "dac_override", "chown", "sys_ptrace", "sys_admin")
    with running([*bare, *python()]) as process:
        assert doctor("--pid", str(process.pid), "--debugger", "gdb", by=bare)[0] == 0
        assert doctor("--pid", str(process.pid), "--debugger", "debugpy", by=bare)[0] == 0


@as_root
def test_nobody_and_the_process_of_root() -> None:
    with running(python()) as process:
        status, found = doctor("--pid", str(process.pid), "--debugger", "gdb", by=NOBODY)
        assert status == 1
        assert list(trouble(found["process"]["findings"])) == ["capabilities"]
        (libc,) = [each["message"] for each in found["process"]["findings"] if each["check"] == "libc"]
        assert libc == f"not known: what process {process.pid} has mapped cannot be read (Permission denied)"


def test_a_user_namespace_below_is_no_obstacle() -> None:
    if not may_unshare("-Ur"):
        pytest.skip("this machine makes no user namespaces")
    with running(["unshare", "-Ur", "sh", "-c", SLEEP]) as found:
        target = gather.target(settled(found, "sleep"))
        assert (target.other_users, target.users_below, target.uid_inside) == (True, True, 0)


def test_an_agent_in_a_user_namespace_of_its_own_may_nothing_outside() -> None:
    if not may_unshare("-Ur"):
        pytest.skip("this machine makes no user namespaces")
    with running(python()) as process:
        status, found = doctor("--pid", str(process.pid), by=["unshare", "-Ur"])
        assert status == 1
        assert "user_namespace" in trouble(found["node"])
        assert trouble(found["process"]["findings"])["capabilities"]["reason"] == Reason.USER_NAMESPACE


@as_root
def test_places_of_a_container_that_cannot_be_used() -> None:
    """What its own user namespace mounted, what may not hold programs, and one that is left."""
    mounts = "mount -t tmpfs none /dev && mount -t tmpfs -o noexec none /run"
    with running([*NOBODY, "unshare", "-Urm", "sh", "-c", f"{mounts} && {SLEEP}"]) as found:
        target = gather.target(settled(found, "sleep"))
        obstacles = {home.path: home.obstacle for home in target.homes}
        assert "no number in the container's user namespace" in obstacles["/dev"]
        assert [home.executable for home in target.homes if home.path == "/run"] == [False]
        assert list(obstacles.values()).count("") == 1
        assert target.other_files


@as_root
@pytest.mark.parametrize(
    ("dev", "needs", "seen"),
    [
        ("size=16m", Needs(directory=True, files=6 * MEGABYTE), 1),
        ("size=4m", Needs(directory=True), 1),
        ("size=4m", Needs(directory=True, files=6 * MEGABYTE), 3),
        ("size=16m,noexec", Needs(directory=True, files=6 * MEGABYTE), 3),
        ("size=16m,ro", Needs(directory=True), 3),
        ("size=16m", Needs(), 0),
    ],
)
def test_a_place_is_looked_at_only_when_the_one_before_cannot_be_used(dev: str, needs: Needs, seen: int) -> None:
    """The last may be on another machine that does not answer."""
    mounts = f"mount -t tmpfs -o ro none /run && mount -t tmpfs -o ro none /tmp && mount -t tmpfs -o {dev} none /dev"
    with running(["unshare", "-m", "sh", "-c", f"{mounts} && {SLEEP}"]) as found:
        process = settled(found, "sleep")
        homes = gather.target(process, needs).homes
        assert tuple(home.path for home in homes) == HOMES[:seen]
        assert [home.obstacle for home in homes[1:]] == ["mounted read-only"] * len(homes[1:])
        assert os.listdir(process.root / "dev") == []


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A cgroup of version 1 with 32 MiB."""
    made = CGROUP / f"squash-test-{secrets.token_hex(4)}"
    try:
        made.mkdir()
        (made / "memory.limit_in_bytes").write_text(str(32 * MEGABYTE))
    except OSError as error:
        pytest.skip(f"cannot make a memory cgroup of version 1: {error}")
    yield made
    made.rmdir()


FILLED = """
import sys
kept = bytearray(int(sys.argv[1]) << 20)
kept[::4096] = b"x" * len(kept[::4096])
"""


@pytest.mark.parametrize(("filled", "level"), [(1, Level.WARNING), (16, Level.REFUSED)])
def test_a_container_that_is_short_of_memory(cgroup: Path, filled: int, level: Level) -> None:
    enter = f"open('{cgroup}/cgroup.procs', 'w').write('0')\n"
    with running([*python(enter + FILLED + subjects.UP), str(filled)]) as process:
        memory = gather.target(process).memory
        assert memory
        assert memory.limit == 32 * MEGABYTE
        findings = examine(Debugpy(), process)
        (found,) = [each for each in findings if each.check == "memory"]
        assert found.level is level, found.message
        assert refusal(examine(Gdb(), process)) is None, "gdbserver adds nothing"


def test_a_stripped_program_is_told_of(tmp_path: Path) -> None:
    source, program = tmp_path / "a.cc", tmp_path / "shop"
    source.write_text('#include <stdio.h>\n#include <unistd.h>\nint main() { puts("up"); fflush(stdout); pause(); }\n')
    subprocess.run(["g++", "-g", "-o", program, source], check=True)
    other = subprocess.run(["g++", "-g", "-Wl,--build-id=0x01", "-o", tmp_path / "other", source], check=True)
    assert other.returncode == 0
    subprocess.run(["objcopy", "--only-keep-debug", program, tmp_path / "shop.debug"], check=True)
    with running([str(program)]) as process:
        assert warnings(examine(Gdb(), process)) == ""
    subprocess.run(["strip", program], check=True)
    with running([str(program)]) as process:
        pid = str(process.pid)
        status, found = doctor("--pid", pid, "--symbols", str(tmp_path / "shop.debug"))
        assert status == 0
        assert "stripped" in trouble(found["process"]["findings"])["symbols"]["message"]
        status, found = doctor("--pid", pid, "--symbols", str(tmp_path / "other"))
        refused = trouble(found["process"]["findings"])["build_id"]
        assert (status, refused["reason"]) == (1, Reason.SYMBOLS_MISMATCH)


def test_the_c_library_is_told_by_what_is_mapped(tmp_path: Path) -> None:
    source = tmp_path / "a.c"
    source.write_text('#include <stdio.h>\n#include <unistd.h>\nint main() { puts("up"); fflush(stdout); pause(); }\n')
    for compiler, name in ((["gcc"], "glibc"), (["musl-gcc"], "musl"), (["gcc", "-static"], "")):
        program = tmp_path / f"with-{name}"
        subprocess.run([*compiler, "-o", program, source], check=True)
        with running([str(program)]) as process:
            found = gather.target(process).libc
            assert found.name == name
            assert bool(found.version) == (name == "glibc")
            assert refusal(examine(Gdb(), process)) is None


def test_a_process_that_is_gone() -> None:
    with running(python()) as process:
        pass
    done = subprocess.run(
        [str(BIN / "squash-agent"), "doctor", "--pid", str(process.pid)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"no process has the pid {process.pid}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pid", "0"], "'0' is no pid"),
        (["--pid", "x"], "'x' is no pid"),
        (["--debugger", "none"], "--debugger none is not one of debugpy, "),
        (["--symbols", "x"], "--symbols is about a process"),
        (["--pid", "1", "--symbols", "/none"], "--symbols '/none' cannot be used"),
        (["surplus"], "unrecognized arguments: surplus"),
    ],
)
def test_bad_arguments(arguments: list[str], says: str) -> None:
    argv = [str(BIN / "squash-agent"), "doctor", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr


def test_the_doctor_in_words() -> None:
    done = subprocess.run(
        [str(BIN / "squash-agent"), "doctor", "--debugger", "pdb"], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "debugger debugpy\n  ok       reach" in done.stdout
    assert "gdb" not in done.stdout

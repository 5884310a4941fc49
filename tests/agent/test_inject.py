"""The injector may be killed at any moment: whatever its thread was at, it goes on as if nothing had happened.

The process is no real CPython but `detoured.c`, which notices what a Python would not: a register, a flag, a system
call that was not started again as it should have been.
"""

import os
import random
import select
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent import inject, machines, remote_exec
from agent.elf import slack
from agent.machines import aarch64, x86_64
from agent.machines.job import BLOCKED
from agent.rescue import tracer
from agent.taskstat import stopped
from squash import procfs
from tests.eventually import eventually
from tests.slowness import SLOWNESS
from tests.soak.width import rounds

from .killed import start_time
from .targets import debuggee

SIGPROCMASK = {"x86_64": 14}.get(os.uname().machine, 135)
"""The number of rt_sigprocmask: glibc's own function leaves two signals out."""
ON_A_DETOUR = f"""
import ctypes, sys, time
def block(mask):
    assert not ctypes.CDLL(None).syscall({SIGPROCMASK}, 2, ctypes.byref(ctypes.c_ulonglong(mask)), None, 8)
squash = 0
block({BLOCKED})
print("away", flush=True)
sys.stdin.readline()
block(0)
sys.stdin.readline()
print(squash, flush=True)
"""
"""A main thread that has blocked what it would on the way that an injector sends it."""
HERE = Path(__file__).parent
SOURCE = "a piece of code"
STEPS = {"x86_64": 26}.get(os.uname().machine, 50)
"""More than an injector takes: a killer that comes too late tests an attach that nobody disturbs."""
KILLS = rounds(20, 400) if SLOWNESS == 1 else 2 * STEPS
KILLS_IN_PYTHON = rounds(20, 400)
LATEST = 0.004 * SLOWNESS
"""Seconds: about what an injector takes, from its first look at the process on."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if ready := os.environ.get("SQUASH_DETOURED"):
        return Path(ready)
    path = tmp_path_factory.mktemp("detoured") / "detoured"
    flags = ["-O1", "-g", "-Wall", "-Wextra", "-Werror", "-rdynamic", "-pthread"]
    subprocess.run(["gcc", *flags, "-o", path, HERE / "detoured.c"], check=True)
    return path


class Lines:
    """A process that answers lines with lines."""

    def __init__(self, *argv: str | Path) -> None:
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.read()

    def tell(self, line: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def read(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


@contextmanager
def lines(*argv: str | Path) -> Iterator[Lines]:
    found = Lines(*argv)
    try:
        yield found
        assert found.process.poll() is None
    finally:
        found.process.kill()
        found.process.communicate()


@contextmanager
def killed(pid: int, source: str) -> Iterator[Lines]:
    with lines(sys.executable, "-m", "tests.agent.killed", str(pid), source) as found:
        yield found


def counts(service: Lines) -> dict[str, int]:
    return dict(zip(("rounds", "wrong", "runs", "queued"), map(int, service.ask("").split()), strict=True))


def kill_all(killer: Lines, kills: int, seed: int) -> Counter[str]:
    """Injectors killed before each of their steps in turn, and at random times."""
    chance = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
    orders = [
        f"step {turn // 2 % STEPS + 1}" if turn % 2 else f"after {chance.uniform(0, LATEST)}" for turn in range(kills)
    ]
    return Counter(killer.ask(order) for order in orders)


@pytest.mark.parametrize("way", ["spin", "poll", "select", "nanosleep", "futex", "read"])
def test_whoever_is_killed_the_thread_goes_on(way: str, program: Path) -> None:
    with lines(program, way) as service, killed(service.process.pid, SOURCE) as killer:
        # Its threads, and with them their stacks, are all there once the main thread goes round.
        before = eventually(lambda: counts(service), lambda found: found["rounds"] > 0)
        maps = len(inject.mappings(service.process.pid))
        fates = kill_all(killer, KILLS, seed=KILLS)
        assert fates["killed"] > KILLS / 2, fates
        assert "strategy" in killer.ask("none"), "and the next one is served"
        after = eventually(
            lambda: counts(service),
            lambda found: found["runs"] > 0 and found["queued"] == 0 and found["rounds"] > before["rounds"],
        )
        assert after["wrong"] == 0
        assert after["rounds"] > before["rounds"]
        assert eventually(lambda: inject.blocked_signals(service.process.pid), lambda found: found == 0) == 0
        assert (procfs.status(service.process.pid) or {})["TracerPid"] == "0"
        left = eventually(lambda: len(inject.mappings(service.process.pid)) - maps, lambda found: found <= 1)
        assert left <= 1, "the stack may have grown; nothing else stays"


def test_a_real_interpreter_goes_on_too() -> None:
    # A main thread that never comes back from its lock takes 31 calls into its queue.
    many = KILLS_IN_PYTHON
    for room, kills in (("busy", many), ("select", many), ("join", 20), ("asyncio", many)):
        with debuggee(room) as service, killed(service.pid, "squash = 1") as killer:
            kill_all(killer, kills, seed=kills)
            assert service.ask("price 5") == {"price": 15}
            assert "strategy" in killer.ask("none")
            assert service.ask("price 7") == {"price": 21}


def test_a_signal_in_the_middle_still_interrupts_the_system_call(program: Path) -> None:
    """A read without SA_RESTART: each signal must end one, also when the thread was on a detour as it came.

    But for one that comes in the last microsecond, between the thread's own look for signals and the system call: as
    with any program that looks for signals first and waits then.
    """
    chance = random.Random(7)  # noqa: S311 - to be repeated, not to be secret
    turns = rounds(40, 1000)
    with lines(program, "interrupted", str(turns + 1)) as service, killed(service.process.pid, SOURCE) as killer:
        assert service.read() == "up"
        sent = lost = 0
        for turn in range(turns):
            killer.tell("none")
            # The random moment is what is tested.
            select.select([], [], [], chance.uniform(0, LATEST))
            os.kill(service.process.pid, signal.SIGUSR1)
            sent += 1
            assert service.process.stdout
            if not select.select([service.process.stdout], [], [], 10 * SLOWNESS)[0]:
                lost += 1
                os.kill(service.process.pid, signal.SIGUSR1)
                sent += 1
            assert service.read() == f"0 {sent}", turn
            assert "strategy" in killer.read()
        assert lost <= max(1, turns // 200)


@pytest.mark.parametrize(("name", "machine"), [("x86_64", x86_64.X86), ("aarch64", aarch64.Aarch64)])
def test_the_code_is_what_its_source_assembles_to(name: str, machine: type[machines.Machine], tmp_path: Path) -> None:
    prefix = "" if name == os.uname().machine else f"{name}-linux-gnu-"
    if prefix and shutil.which(f"{prefix}as") is None:
        pytest.skip(f"no assembler for {name} here: `make aarch64` installs one")
    source, made = Path(machines.__file__).with_name(f"{name}.S"), tmp_path / "object"
    subprocess.run([f"{prefix}as", "-o", made, source], check=True)
    subprocess.run([f"{prefix}objcopy", "-O", "binary", "-j", ".text", made, tmp_path / "code"], check=True)
    assert (tmp_path / "code").read_bytes() == machine.CODE
    said = subprocess.run(["readelf", "-sW", made], check=True, capture_output=True, text=True).stdout
    labels = {words[-1].upper(): int(words[1], 16) for words in map(str.split, said.splitlines()) if "NOTYPE" in words}
    named = {label for label in ("ENTRY", "BACK", "REST") if hasattr(machine, label)}
    assert {label: labels[label] for label in named} == {label: getattr(machine, label) for label in named}


def test_slack_is_behind_the_code(program: Path) -> None:
    said = subprocess.run(["readelf", "-lW", program], check=True, capture_output=True, text=True).stdout
    words = next(line.split() for line in said.splitlines() if "LOAD" in line and "R E" in line)
    offset, size = int(words[1], 16), int(words[4], 16)
    assert [(gap.mapped_from, gap.begin, gap.end) for gap in slack(program)] == [
        (offset, size, -(-size // 4096) * 4096)
    ]


def test_code_of_another_version_is_left_alone(program: Path) -> None:
    """A call of it may still be queued."""
    machine = machines.this()
    assert machine
    with lines(program, "spin") as service:
        counts(service)
        pid = service.process.pid
        first = inject.find_interpreter(pid, machine).places[0]
        other = machine.CODE[:7] + b"0" + b"\xcc" * 64
        memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
        try:
            os.pwrite(memory, other, first)
            inject.inject(pid, start_time(pid), SOURCE)
            assert os.pread(memory, len(other), first) == other
        finally:
            os.close(memory)
        assert eventually(lambda: counts(service), lambda found: found["runs"] == 1)["wrong"] == 0


def test_a_full_queue_is_told(program: Path) -> None:
    with lines(program, "full") as service:
        assert eventually(lambda: counts(service)["queued"]) == 32
        with pytest.raises(machines.RefusedError, match="queue of pending calls is full"):
            inject.inject(service.process.pid, start_time(service.process.pid), SOURCE)
        assert counts(service)["wrong"] == 0


def test_no_patience_is_lost_on_a_process_that_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inject, "MOMENTS", 50)
    with lines(sys.executable, "-c", ON_A_DETOUR) as service, ThreadPoolExecutor() as others:
        assert service.read() == "away"
        os.kill(service.process.pid, signal.SIGSTOP)
        found = others.submit(inject.inject, service.process.pid, start_time(service.process.pid), "squash = 1")
        done, _ = wait([found], 1.5 * inject.MOMENTS * inject.MOMENT)
        assert not done
        service.tell("come back")
        os.kill(service.process.pid, signal.SIGCONT)
        assert found.result(20)["strategy"] == "direct"
        assert service.ask("") == "1"


def test_who_is_stopped_meanwhile_is_served_later(program: Path) -> None:
    with lines(program, "futex") as service, ThreadPoolExecutor() as others:
        counts(service)
        os.kill(service.process.pid, signal.SIGSTOP)
        eventually(lambda: stopped(service.process.pid))
        assert not inject.insist(service.process.pid, start_time(service.process.pid), SOURCE)
        found = others.submit(inject.inject, service.process.pid, start_time(service.process.pid), SOURCE)
        assert not wait([found], 20 * inject.MOMENT).done
        os.kill(service.process.pid, signal.SIGCONT)
        assert found.result(20)["strategy"]
        assert eventually(lambda: counts(service), lambda found: found["runs"] == 1)["wrong"] == 0


@pytest.mark.parametrize("way", ["spin", "nanosleep", "futex"])
def test_a_stop_at_any_moment_of_the_way_blocks_no_signals(way: str, program: Path) -> None:
    with lines(program, way) as service, ThreadPoolExecutor() as others:
        counts(service)
        pid, turns = service.process.pid, rounds(80, 400)
        for turn in range(turns):
            found = others.submit(inject.inject, pid, start_time(pid), SOURCE)
            while not (tracer(pid) or found.done()):
                pass
            wait([found], turn % 20 * 0.00002)
            os.kill(pid, signal.SIGSTOP)
            eventually(lambda: stopped(pid))
            os.kill(pid, signal.SIGCONT)
            assert found.result(20)["strategy"]
            assert eventually(lambda: inject.blocked_signals(pid), lambda mask: mask == 0) == 0
        after = eventually(lambda: counts(service), lambda now: now["runs"] == turns and now["queued"] == 0)
        assert (after["runs"], after["wrong"]) == (turns, 0)


def test_who_stays_stopped_is_told_so(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inject, "STOPS", 5)
    with lines(program, "futex") as service:
        counts(service)
        os.kill(service.process.pid, signal.SIGSTOP)
        eventually(lambda: stopped(service.process.pid))
        with pytest.raises(machines.RefusedError, match="continue it first"):
            inject.inject(service.process.pid, start_time(service.process.pid), SOURCE)
        os.kill(service.process.pid, signal.SIGCONT)
        assert counts(service)["wrong"] == 0


def test_a_pid_that_is_another_program_by_now_is_left_alone(program: Path) -> None:
    with lines(program, "spin") as service:
        counts(service)
        with pytest.raises(machines.RefusedError, match="became another program"):
            inject.inject(service.process.pid, 1, SOURCE)
        assert counts(service)["runs"] == 0


def test_whoever_has_the_number_by_now_is_not_written_to(program: Path) -> None:
    with lines(program, "futex") as service:
        counts(service)
        assert not inject.insist(service.process.pid, 1, SOURCE)
        assert counts(service)["runs"] == 0
    with (
        pytest.raises(remote_exec.NotNowError, match="its number is another's"),
        remote_exec.asked(os.getpid(), 1, "x"),
    ):
        raise AssertionError("asked somebody else")

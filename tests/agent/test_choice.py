"""Which process, which debugger: the choice alone."""

from functools import partial
from pathlib import Path

import pytest

from agent import choice
from agent.choice import AmbiguousError
from agent.debuggers import DebugServer, Target
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding
from agent.preflight.needs import Needs
from agent.process import Process
from squash.errors import SquashError
from squash.model import AttachmentSpec
from squash.reasons import Reason


class Claims:
    """A debugger that claims what runs the executable it is told."""

    protocol = "dap"
    needs = Needs()

    def __init__(self, name: str, **claims: float) -> None:
        self.name = name
        self._claims = claims

    def claim(self, process: Process) -> float:
        return self._claims.get(process.comm, -1)

    def examine(self, facts: Facts) -> list[Finding]:
        raise AssertionError("only asked for its claim")

    async def attach(self, target: Target) -> DebugServer:
        raise AssertionError("only asked for its claim")

    async def recover(self, directory: Path) -> None:
        raise AssertionError("only asked for its claim")


def process(pid: int, comm: str, *cmdline: str) -> Process:
    return Process(pid, pid, 1, comm, f"/usr/bin/{comm}", cmdline or (comm,), 0, 0)


pick = partial(choice.pick, listens=lambda process: False)
"""These processes are made up: whoever has such a pid just now is not to be looked at."""


def wanted(debugger: str = "", name: str = "", pid: int | None = None, only: bool = False) -> AttachmentSpec:
    return AttachmentSpec(attachment={}, debugger=debugger, process_name=name, pid=pid, only_choice=only)


SHELL = process(1, "sh", "sh", "-c", "exec things")
PYTHON = process(2, "python3", "python3", "/app/pricing.py")
WORKER = process(3, "python3", "python3", "/app/pricing.py", "--worker")
SERVER = process(4, "stock", "./stock")
PLUGINS = {d.name: d for d in (Claims("debugpy", python3=0.9), Claims("gdb", python3=0.1, sh=0.2, stock=0.5))}


@pytest.mark.parametrize(
    ("processes", "debugger", "name", "expected"),
    [
        ([PYTHON], "", "", (PYTHON, "debugpy")),
        ([SHELL, PYTHON, WORKER], "", "", (PYTHON, "debugpy")),
        ([SHELL, SERVER], "", "", (SERVER, "gdb")),
        ([SHELL, PYTHON], "", "sh", (SHELL, "gdb")),
        ([SHELL, PYTHON], "gdb", "pricing.py", (PYTHON, "gdb")),
        ([SHELL, PYTHON, SERVER], "", "stock", (SERVER, "gdb")),
        ([PYTHON, WORKER], "debugpy", "python3", (PYTHON, "debugpy")),
    ],
)
def test_the_best_claim_wins_and_then_the_oldest(
    processes: list[Process], debugger: str, name: str, expected: tuple[Process, str]
) -> None:
    found, plugin, _ = pick(processes, PLUGINS, wanted(debugger, name))
    assert (found, plugin.name) == expected


@pytest.mark.parametrize(
    ("processes", "debugger", "name", "reason", "says"),
    [
        ([], "", "", Reason.PROCESS_NOT_FOUND, "the container runs no process here: it has ended"),
        ([SHELL, PYTHON], "", "java", Reason.PROCESS_NOT_FOUND, "no process named 'java' .* runs: python3, sh"),
        ([PYTHON], "dlv", "", Reason.UNKNOWN_DEBUGGER, "'dlv' is not one of debugpy, gdb"),
        ([SERVER], "debugpy", "", Reason.DEBUGGER_UNSUITED, "debugpy does not suit process 4"),
        ([process(9, "java")], "", "", Reason.NO_DEBUGGER_CLAIMS, "none of debugpy, gdb suits process 9"),
    ],
)  # fmt: skip
def test_a_choice_that_cannot_be_made_says_why(
    processes: list[Process], debugger: str, name: str, reason: Reason, says: str
) -> None:
    with pytest.raises(SquashError, match=says) as refusal:
        pick(processes, PLUGINS, wanted(debugger, name))
    assert refusal.value.reason is reason


def test_equals_are_told_to_whoever_wants_to_choose() -> None:
    with pytest.raises(AmbiguousError, match=r"2 \(python3 pricing.py\), 3 \(python3 pricing.py\)") as refusal:
        pick([SHELL, PYTHON, WORKER], PLUGINS, wanted(only=True))
    assert refusal.value.reason is Reason.PROCESS_AMBIGUOUS
    assert [(each.pid, each.debugger) for each in refusal.value.candidates] == [(2, "debugpy"), (3, "debugpy")]


def test_a_pid_is_a_choice() -> None:
    found, _, why = pick([SHELL, PYTHON, WORKER], PLUGINS, wanted(pid=3, only=True))
    assert found is WORKER
    assert why == "process 3 (python3 pricing.py) for debugpy: its pid was asked for"
    with pytest.raises(SquashError, match="no process with pid 99"):
        pick([SHELL, PYTHON], PLUGINS, wanted(pid=99))


def test_pdb_is_another_name_for_debugpy_unless_a_plug_in_has_it() -> None:
    assert pick([PYTHON], PLUGINS, wanted("pdb"))[1] is PLUGINS["debugpy"]
    own = Claims("pdb", python3=0.2)
    assert pick([PYTHON], PLUGINS | {"pdb": own}, wanted("pdb"))[1] is own
    with pytest.raises(SquashError, match="debugpy does not suit process 1"):
        pick([SHELL], PLUGINS, wanted("pdb"))


def test_what_suits_best_needs_no_choice() -> None:
    assert pick([SHELL, PYTHON, SERVER], PLUGINS, wanted(only=True))[0] is PYTHON


def child(pid: int, parent: Process, comm: str, *cmdline: str) -> Process:
    return Process(pid, pid, parent.pid, comm, f"/usr/bin/{comm}", cmdline or (comm,), 0, 0)


TINI = process(10, "tini", "tini", "--", "start.sh")
SUPERVISORD = process(11, "supervisord", "/usr/bin/python3", "/usr/bin/supervisord", "-n")
MASTER = process(12, "gunicorn", "/usr/bin/python3", "/usr/bin/gunicorn", "shop:app")
PYTHONS = Claims("debugpy", python3=0.9, supervisord=0.9, gunicorn=0.9)
ALL = {d.name: d for d in (PYTHONS, PLUGINS["gdb"], Claims("x", nginx=0.5, tini=0.5))}
FIRST = child(20, SUPERVISORD, "python3", "python3", "a.py")
SECOND = child(21, SUPERVISORD, "python3", "python3", "b.py")
NGINX = process(13, "nginx", "nginx: master process nginx -g daemon off;")


@pytest.mark.parametrize(
    ("processes", "expected", "why"),
    [
        ([PYTHON], PYTHON, "process 2 (python3 pricing.py) for debugpy: the only process of the container"),
        (
            [TINI, SHELL, PYTHON],
            PYTHON,
            "process 2 (python3 pricing.py) for debugpy: of 3 the one that suits best; besides: "
            "10 (tini, starts others), 1 (sh, suits 0.2)",
        ),
        (
            [SUPERVISORD, FIRST, SECOND],
            FIRST,
            "process 20 (python3 a.py) for debugpy: the oldest of 2 that suit equally; a request may as well "
            "reach another; besides: 11 (supervisord, starts others), 21 (python3 b.py, suits 0.9)",
        ),
        (
            [MASTER, child(22, MASTER, "gunicorn", "/usr/bin/python3", "/usr/bin/gunicorn")],
            child(22, MASTER, "gunicorn", "/usr/bin/python3", "/usr/bin/gunicorn"),
            "process 22 (gunicorn) for debugpy: of 2 the one that suits best; besides: 12 (gunicorn, starts others)",
        ),
        ([MASTER], MASTER, "process 12 (gunicorn) for debugpy: the only process of the container"),
        (
            [NGINX, child(23, NGINX, "nginx", "nginx: worker process")],
            child(23, NGINX, "nginx", "nginx: worker process"),
            "process 23 (nginx) for x: of 2 the one that suits best; besides: 13 (nginx, starts others)",
        ),
        ([SUPERVISORD], SUPERVISORD, "process 11 (supervisord) for debugpy: the only process of the container"),
        ([TINI, process(30, "java")], TINI, "process 10 (tini) for x: of 2 the one that suits best; besides: "
         "30 (java, suits no debugger)"),
    ],
)  # fmt: skip
def test_what_starts_services_is_left_for_what_serves(processes: list[Process], expected: Process, why: str) -> None:
    found = pick(processes, ALL, wanted())
    assert (found.process, found.why) == (expected, why)


def test_what_a_server_starts_besides_is_no_worker() -> None:
    helper = child(24, MASTER, "sh", "sh", "-c", "true")
    assert pick([MASTER, helper], ALL, wanted()).process is MASTER


UVICORN = process(60, "uvicorn", "/usr/bin/python3", "/usr/bin/uvicorn", "shop:app")
TRACKER = child(61, UVICORN, "python3", "python3", "-c", "from multiprocessing.resource_tracker import main;main(4)")
FORKS = child(62, UVICORN, "python3", "python3", "-c", "from multiprocessing.forkserver import main; main(7, 8)")
SPAWNED = child(63, UVICORN, "python3", "python3", "-c", "from multiprocessing.spawn import spawn_main; spawn_main(9)")
FORKED = child(64, FORKS, "python3", *FORKS.cmdline)
SERVERS = {"debugpy": Claims("debugpy", uvicorn=0.9, python3=0.9)}


@pytest.mark.parametrize(
    ("processes", "listening", "expected"),
    [
        ([UVICORN, TRACKER], [], UVICORN),
        ([UVICORN, TRACKER, FORKS], [UVICORN], UVICORN),
        ([UVICORN, TRACKER, SPAWNED], [UVICORN, SPAWNED], SPAWNED),
        ([UVICORN, TRACKER, SPAWNED], [], SPAWNED),
        ([UVICORN, TRACKER, SPAWNED], [UVICORN], UVICORN),
        ([UVICORN, TRACKER, FORKS, FORKED], [UVICORN, FORKED], FORKED),
        ([PYTHON, WORKER], [WORKER], WORKER),
        ([TRACKER], [], TRACKER),
    ],
)
def test_a_worker_is_what_runs_the_program_and_best_what_listens(
    processes: list[Process], listening: list[Process], expected: Process
) -> None:
    found = choice.pick(processes, SERVERS, wanted(), listens=listening.__contains__)
    assert found.process is expected


def test_a_name_finds_no_helper_of_multiprocessing() -> None:
    assert pick([TRACKER, WORKER], SERVERS, wanted(name="python3")).process is WORKER
    assert pick([TRACKER, WORKER], SERVERS, wanted(pid=61)).process is TRACKER


def test_a_name_chooses_a_supervisor_all_the_same() -> None:
    worker = child(20, SUPERVISORD, "python3", "python3", "a.py")
    found = pick([SUPERVISORD, worker], ALL, wanted(name="supervisord"))
    assert found.process is SUPERVISORD
    assert found.why.endswith("the only one of 2 that is named 'supervisord'")


def test_arguments_are_not_told() -> None:
    """They may be code, or a password."""
    secret = process(40, "python3", "python3", "-c", "password = 'x'")
    server = process(41, "stock", "./stock", "--key", "hush")
    assert pick([secret], ALL, wanted()).why.startswith("process 40 (python3) for")
    assert pick([server], ALL, wanted()).why.startswith("process 41 (stock) for")


def test_many_others_are_counted() -> None:
    many = [process(50 + n, "python3", "python3", f"w{n}.py") for n in range(9)]
    why = pick(many, ALL, wanted()).why
    assert "the oldest of 9 that suit equally;" in why
    assert why.endswith("55 (python3 w5.py, suits 0.9) and 3 more")

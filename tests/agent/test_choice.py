"""Which process, which debugger: the choice alone."""

from pathlib import Path

import pytest

from agent.choice import AmbiguousError, pick
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
    found, plugin = pick(processes, PLUGINS, wanted(debugger, name))
    assert (found, plugin.name) == expected


@pytest.mark.parametrize(
    ("processes", "debugger", "name", "reason", "says"),
    [
        ([], "", "", Reason.PROCESS_NOT_FOUND, "it runs: none"),
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
    found, _ = pick([SHELL, PYTHON, WORKER], PLUGINS, wanted(pid=3, only=True))
    assert found is WORKER
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

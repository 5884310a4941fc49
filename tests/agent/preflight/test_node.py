"""What an agent could do on a node at all, from facts that are made up."""

from dataclasses import replace
from pathlib import Path

import pytest

from agent.debuggers import installed
from agent.preflight import node
from agent.preflight.facts import AgentFacts, Seccomp
from agent.preflight.finding import Finding, Level
from agent.preflight.needs import Capability, Needs
from squash.reasons import Reason
from tests.agent.preflight.facts import NOBODY, ROOT

GDB = Needs(traces=True, libraries=True, programs=("gdbserver",))
DEBUGPY = Needs(traces=True, directory=True, machines=frozenset({"x86_64"}))
JDWP = Needs(network=True)
FILTERED = replace(ROOT, seccomp=Seccomp.FILTER)


def trouble(found: list[Finding]) -> dict[str, Finding]:
    return {each.check: each for each in found if each.level is not Level.OK and each.check != node.RUNTIMES}


def everywhere(name: str) -> str:
    return f"/usr/bin/{name}"


def nowhere(name: str) -> None:
    return None


@pytest.mark.parametrize("agent", [ROOT, NOBODY, replace(ROOT, ptrace_scope=2), replace(NOBODY, ptrace_scope=0)])
def test_nothing_is_wrong(agent: AgentFacts) -> None:
    assert trouble(list(node.examine(agent, ()))) == {}


@pytest.mark.parametrize(
    ("agent", "check", "level", "reason"),
    [
        (replace(ROOT, ptrace_scope=3), "ptrace_scope", Level.REFUSED, Reason.PTRACE_SCOPE),
        (replace(NOBODY, ptrace_scope=1), "ptrace_scope", Level.WARNING, None),
        (replace(FILTERED, blocked=frozenset({"ptrace"})), "seccomp", Level.REFUSED, Reason.SECCOMP_DENIED),
        (replace(ROOT, blocked=frozenset({"process_vm_readv"})), "seccomp", Level.WARNING, None),
        (replace(ROOT, own_pids=True), "pids", Level.WARNING, None),
        (replace(ROOT, own_users=True), "user_namespace", Level.WARNING, None),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_node(agent: AgentFacts, check: str, level: Level, reason: Reason | None) -> None:
    found = trouble(list(node.examine(agent, ())))
    assert list(found) == [check]
    assert (found[check].level, found[check].reason) == (level, reason)
    assert found[check].remedy


def test_runtimes_that_are_there_are_told(tmp_path: Path) -> None:
    (tmp_path / "x.sock").touch()
    found = [each.message for each in node.examine(ROOT, (tmp_path / "x.sock",)) if each.check == node.RUNTIMES]
    assert str(tmp_path / "x.sock") in found


@pytest.mark.parametrize("needs", [GDB, DEBUGPY, JDWP])
def test_with_every_capability_everything_is_in_reach(needs: Needs) -> None:
    assert trouble(list(node.reach(ROOT, needs, everywhere))) == {}


def test_a_program_that_is_missing() -> None:
    found = trouble(list(node.reach(ROOT, GDB, nowhere)))
    assert found["programs"].reason is Reason.DEBUGGER_MISSING


def test_another_machine() -> None:
    found = trouble(list(node.reach(replace(ROOT, machine="riscv64"), DEBUGPY, everywhere)))
    assert found["architecture"].reason is Reason.ARCHITECTURE


@pytest.mark.parametrize("agent", [replace(ROOT, ptrace_scope=3), replace(ROOT, blocked=frozenset({"ptrace"}))])
def test_where_nothing_can_be_traced(agent: AgentFacts) -> None:
    assert trouble(list(node.reach(agent, GDB, everywhere)))["reach"].reason is Reason.PTRACE_DENIED
    assert trouble(list(node.reach(agent, JDWP, everywhere))) == {}


@pytest.mark.parametrize(
    ("needs", "named"),
    [
        (GDB, {"DAC_OVERRIDE", "KILL", "SYS_PTRACE", "SYS_ADMIN", "SYS_CHROOT"}),
        (DEBUGPY, {"CHOWN", "DAC_OVERRIDE", "KILL", "SYS_PTRACE"}),
        (JDWP, {"SYS_PTRACE", "SYS_ADMIN"}),
        (Needs(signals=True), {"SYS_PTRACE", "KILL"}),
    ],
)
def test_what_nobody_lacks_for_the_processes_of_others(needs: Needs, named: set[str]) -> None:
    found = trouble(list(node.reach(NOBODY, needs, everywhere)))["reach"]
    assert found.level is Level.WARNING
    assert "only processes of uid 1000" in found.message
    assert {name.removeprefix("CAP_") for name in found.remedy.replace(",", "").split() if "CAP_" in name} == named


@pytest.mark.parametrize(("needs", "what"), [(GDB, "libraries in containers"), (JDWP, "network namespaces")])
def test_what_is_lacking_for_containers_alone(needs: Needs, what: str) -> None:
    agent = replace(ROOT, capabilities=ROOT.capabilities - {Capability.SYS_ADMIN})
    found = trouble(list(node.reach(agent, needs, everywhere)))["reach"]
    assert what in found.message
    assert found.remedy.endswith("CAP_SYS_ADMIN")


def test_every_debugger_says_what_it_needs() -> None:
    """One that needs nothing of anybody has forgotten to."""
    for debugger in installed().values():
        assert debugger.needs != Needs(), debugger.name
        assert trouble(list(node.reach(ROOT, debugger.needs, everywhere))) == {}

"""What facts mean, without any process: each check, at both sides of its edge."""

from dataclasses import replace
from itertools import product

import pytest

from agent.preflight import finding, judge
from agent.preflight.facts import AgentFacts, Facts, Home, Seccomp
from agent.preflight.finding import Finding, Level
from agent.preflight.memory import Memory
from agent.preflight.needs import MEGABYTE, Capability, Needs
from squash.reasons import Reason
from tests.agent.preflight.facts import NOBODY, PROGRAM, ROOT, facts

TRACES = Needs(traces=True)
BRINGS = Needs(traces=True, directory=True, files=MEGABYTE, runs_code=True, memory=16 * MEGABYTE)
NATIVE = Needs(traces=True, symbols=True, libraries=True, machines=frozenset({"x86_64", "aarch64"}))
CONNECTS = Needs(network=True)


def without(*lacking: Capability) -> AgentFacts:
    return replace(ROOT, capabilities=ROOT.capabilities - set(lacking))


def bad(found: list[Finding]) -> list[tuple[str, Level, Reason | None]]:
    return [(each.check, each.level, each.reason) for each in found if each.level is not Level.OK]


@pytest.mark.parametrize("needs", [Needs(), TRACES, BRINGS, NATIVE, CONNECTS])
def test_nothing_is_held_against_an_ordinary_process(needs: Needs) -> None:
    found = judge.judge(facts(), needs)
    assert bad(found) == []
    assert judge.worst(found) is Level.OK
    assert finding.refusal(found) is None
    assert finding.warnings(found) == ""


def test_whoever_does_not_trace_gets_on_with_a_tracer() -> None:
    found = judge.judge(facts(tracer=99, tracer_name="strace"), CONNECTS)
    assert finding.refusal(found) is None
    assert "is traced by process 99 (strace)" in finding.warnings(found)


REFUSED = {
    "traced": (
        facts(tracer=99, tracer_name="strace"),
        TRACES,
        "tracer",
        Reason.TRACED_BY_OTHER,
        "process 99 (strace)",
    ),
    "yama 1 and no capability": (
        facts(replace(NOBODY, ptrace_scope=1), 1000, may_trace=False),
        TRACES,
        "ptrace_scope",
        Reason.PTRACE_SCOPE,
        "kernel.yama.ptrace_scope is 1",
    ),
    "yama 3": (
        facts(replace(ROOT, ptrace_scope=3), may_trace=False),
        TRACES,
        "ptrace_scope",
        Reason.PTRACE_SCOPE,
        "ptrace_scope is 3",
    ),
    "the agent's filter": (
        facts(replace(ROOT, seccomp=Seccomp.FILTER, blocked=frozenset({"ptrace"}))),
        TRACES,
        "seccomp",
        Reason.SECCOMP_DENIED,
        "refuses ptrace",
    ),
    "strict": (facts(seccomp=Seccomp.STRICT), BRINGS, "seccomp", Reason.SECCOMP_DENIED, "strict mode"),
    "foreign user namespace": (
        facts(other_users=True, users_below=False),
        TRACES,
        "user_namespace",
        Reason.USER_NAMESPACE,
        "not below the agent's",
    ),
    "no SYS_PTRACE": (
        facts(NOBODY, 1001, may_look=False),
        CONNECTS,
        "capabilities",
        Reason.CAPABILITY_MISSING,
        "CAP_SYS_PTRACE to look at it",
    ),
    "no KILL": (
        facts(without(Capability.KILL), 1000, may_signal=False),
        NATIVE,
        "capabilities",
        Reason.CAPABILITY_MISSING,
        "CAP_KILL to signal it",
    ),
    "no DAC_OVERRIDE": (
        facts(without(Capability.DAC_OVERRIDE), 1000, may_trace=False),
        NATIVE,
        "capabilities",
        Reason.CAPABILITY_MISSING,
        "CAP_DAC_OVERRIDE to write its memory",
    ),
    "no CHOWN": (
        facts(without(Capability.CHOWN), 1000),
        BRINGS,
        "capabilities",
        Reason.CAPABILITY_MISSING,
        "CAP_CHOWN to give it a socket",
    ),
    "no SYS_ADMIN": (
        facts(without(Capability.SYS_ADMIN), other_network=True),
        CONNECTS,
        "capabilities",
        Reason.CAPABILITY_MISSING,
        "CAP_SYS_ADMIN to enter its network namespace",
    ),
    "a security module": (
        facts(may_trace=False),
        TRACES,
        "capabilities",
        Reason.PTRACE_DENIED,
        "although its capabilities would do",
    ),
    "unreadable": (facts(program=None), NATIVE, "architecture", Reason.DEBUGGER_UNSUITED, "no native executable"),
    "32 bits": (
        facts(program=replace(PROGRAM, machine="i386")),
        NATIVE,
        "architecture",
        Reason.ARCHITECTURE,
        "runs i386 code on x86_64",
    ),
    "emulated": (
        facts(program=replace(PROGRAM, machine="aarch64")),
        NATIVE,
        "architecture",
        Reason.ARCHITECTURE,
        "runs aarch64 code on x86_64",
    ),
    "no place": (
        facts(other_files=True, homes=(Home("/dev", "", executable=False), Home("/run", "mounted read-only"))),
        BRINGS,
        "file_systems",
        Reason.FILES_UNREADABLE,
        "/dev: mounted noexec; /run: mounted read-only",
    ),
    "stopped": (facts(state="T"), BRINGS, "state", Reason.DEBUGGER_UNSUITED, "is stopped by a signal, and code"),
    "no space": (
        facts(other_files=True, homes=(Home("/dev", "", 5 * MEGABYTE),)),
        replace(BRINGS, files=14 * MEGABYTE),
        "file_systems",
        Reason.FILES_UNREADABLE,
        "/dev: 5 MiB free, and the debugger's files take 14",
    ),
    "no memory": (
        facts(memory=Memory(64 * MEGABYTE, 60 * MEGABYTE, 8 * MEGABYTE)),
        BRINGS,
        "memory",
        Reason.MEMORY_SHORT,
        "12 MiB of the container's 64 MiB are free, and this debugger adds about 16 MiB",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    known, needs, check, reason, says = REFUSED[case]
    found = judge.judge(known, needs)
    assert (check, Level.REFUSED, reason) in bad(found)
    error = finding.refusal(found)
    assert error
    assert says in error.message
    assert all(each.remedy for each in found if each.level is not Level.OK)
    assert judge.worst(found) is Level.REFUSED


WARNED = {
    "stopped": (facts(state="T"), TRACES, "state: process 42 is stopped by a signal; let it run on: kill -CONT 42"),
    "slow memory": (
        facts(replace(ROOT, blocked=frozenset({"process_vm_readv"}))),
        TRACES,
        "refuses process_vm_readv",
    ),
    "a user without a number": (facts(other_users=True, uid_inside=None), TRACES, "has no number in its own user"),
    "no SYS_CHROOT": (
        facts(without(Capability.SYS_CHROOT), other_files=True),
        NATIVE,
        "libraries cannot be read, so nothing is known of what is in them; give the agent CAP_SYS_CHROOT",
    ),
    "little memory": (facts(memory=Memory(64 * MEGABYTE, 44 * MEGABYTE, 0)), BRINGS, "20 MiB of the container's 64"),
    "stripped": (facts(program=replace(PROGRAM, symbols=False, debug=False)), NATIVE, "the executable is stripped"),
    "no lines": (facts(program=replace(PROGRAM, debug=False)), NATIVE, "no debug information"),
    "optimised": (facts(program=replace(PROGRAM, optimised=True)), NATIVE, "was optimised"),
}


@pytest.mark.parametrize("case", WARNED)
def test_warned(case: str) -> None:
    known, needs, says = WARNED[case]
    found = judge.judge(known, needs)
    assert finding.refusal(found) is None
    assert says in finding.warnings(found)
    assert judge.worst(found) is Level.WARNING


ALLOWED = {
    "yama 1 with the capability": (facts(replace(ROOT, ptrace_scope=1)), TRACES),
    "yama 1 and the process allows it": (facts(replace(NOBODY, ptrace_scope=1), 1000), TRACES),
    "the same user needs no capability": (facts(NOBODY, 1000), BRINGS),
    "capabilities that this one does not take": (facts(without(Capability.CHOWN, Capability.SYS_ADMIN), 1000), TRACES),
    "a container of the same network": (facts(without(Capability.SYS_ADMIN), other_files=True), CONNECTS),
    "a filter of the process": (facts(seccomp=Seccomp.FILTER), BRINGS),
    "strict, and nothing runs in there": (facts(seccomp=Seccomp.STRICT), NATIVE),
    "a user namespace below": (facts(other_users=True, uid_inside=0), TRACES),
    "the second place": (
        facts(other_files=True, homes=(Home("/dev", "", executable=False), Home("/run", ""))),
        BRINGS,
    ),
    "a place for a socket alone": (
        facts(other_files=True, homes=(Home("/dev", "", free=0, executable=False),)),
        replace(CONNECTS, directory=True),
    ),
    "enough memory": (facts(memory=Memory(64 * MEGABYTE, 60 * MEGABYTE, 40 * MEGABYTE)), BRINGS),
    "memory that it does not take": (facts(memory=Memory(64 * MEGABYTE, 64 * MEGABYTE, 0)), NATIVE),
    "another machine, and it does not matter": (facts(program=replace(PROGRAM, machine="arm")), CONNECTS),
    "no executable, and it does not matter": (facts(program=None), CONNECTS),
    "stripped, and it does not matter": (facts(program=replace(PROGRAM, symbols=False, debug=False)), BRINGS),
    "optimised, perhaps": (facts(program=replace(PROGRAM, optimised=None)), NATIVE),
}


@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(case: str) -> None:
    known, needs = ALLOWED[case]
    assert bad(judge.judge(known, needs)) == []


def test_of_a_capability_only_what_is_lacking_is_named() -> None:
    lacking = without(Capability.KILL, Capability.CHOWN)
    found = judge.judge(facts(lacking, 1000, may_signal=False), BRINGS)
    (refusal,) = [each for each in found if each.level is Level.REFUSED]
    assert "CAP_CHOWN to give it a socket, CAP_KILL to signal it" in refusal.message
    assert "SYS_PTRACE" not in refusal.message


def test_whatever_is_known_is_judged_without_a_fault() -> None:
    """Every combination of the yes-and-no facts: no check may trip over another one's trouble."""
    switches = ("may_look", "may_trace", "may_signal", "other_users", "users_below", "other_files", "other_network")
    for values in product((True, False), repeat=len(switches)):
        for agent, needs, uid in product((ROOT, NOBODY), (BRINGS, NATIVE, CONNECTS), (0, 1000)):
            known = facts(agent, uid, **dict(zip(switches, values, strict=True)))
            found = judge.judge(known, needs)
            assert all(each.reason for each in found if each.level is Level.REFUSED)
            traces = needs.traces and not known.target.may_trace
            if traces or not known.target.may_look:
                assert judge.worst(found) is Level.REFUSED


def test_programs() -> None:
    needs = Needs(programs=("gdbserver", "dlv"))
    found = list(judge.programs(needs, {"dlv": "/usr/bin/dlv"}.get))
    assert [(each.level, each.reason) for each in found] == [
        (Level.REFUSED, Reason.DEBUGGER_MISSING),
        (Level.OK, None),
    ]


@pytest.mark.parametrize(
    ("own", "symbols", "level"),
    [
        ("abcd", "abcd", Level.OK),
        ("abcd", "ef01", Level.REFUSED),
        ("", "ef01", Level.WARNING),
        ("abcd", "", Level.WARNING),
    ],
)
def test_build_id(own: str, symbols: str, level: Level) -> None:
    known: Facts = facts(program=replace(PROGRAM, build_id=own))
    assert judge.build_id(known, symbols, "shop.debug").level is level

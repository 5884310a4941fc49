"""What an agent can do on this node at all, before there is any process: findings of the node, and of each debugger."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from agent.preflight import judge
from agent.preflight.facts import AgentFacts, Seccomp
from agent.preflight.finding import Finding, ok, refused, warning
from agent.preflight.needs import Capability, Needs
from squash.reasons import Reason
from squash.runtimes.sockets import DOCKER, there

RUNTIMES = "runtimes"
_PROFILE = "run the agent with seccomp profile RuntimeDefault or Unconfined"


def examine(agent: AgentFacts, sockets: Iterable[Path] | None = None) -> Iterator[Finding]:
    """What holds for all debuggers. `sockets`: of the container runtimes, looked for unless they are given."""
    held = ", ".join(each.name for each in sorted(agent.capabilities)) or "none of those that debuggers take"
    yield ok("capabilities", held)
    scope = agent.ptrace_scope
    if scope is None:
        yield ok("ptrace_scope", "there is no Yama here")
    elif scope >= 3:
        advice = "only a restart of the machine changes it"
        message = f"kernel.yama.ptrace_scope is {scope}: nobody traces anybody"
        yield refused("ptrace_scope", Reason.PTRACE_SCOPE, message, advice)
    elif scope and Capability.SYS_PTRACE not in agent.capabilities:
        message = (
            f"kernel.yama.ptrace_scope is {scope}: without CAP_SYS_PTRACE only the agent's own children are traced"
        )
        yield warning("ptrace_scope", message, "give the agent CAP_SYS_PTRACE")
    else:
        yield ok("ptrace_scope", f"kernel.yama.ptrace_scope is {scope}")
    if "ptrace" in agent.blocked:
        yield refused("seccomp", Reason.SECCOMP_DENIED, "the agent's seccomp filter refuses ptrace", _PROFILE)
    elif agent.blocked:
        yield warning("seccomp", f"the agent's seccomp filter refuses {', '.join(sorted(agent.blocked))}", _PROFILE)
    else:
        named = "there is no seccomp filter" if agent.seccomp is Seccomp.NONE else "the filter lets debuggers work"
        yield ok("seccomp", named)
    yield from _namespaces(agent)
    yield from _runtimes(there() if sockets is None else sockets)


def _namespaces(agent: AgentFacts) -> Iterator[Finding]:
    if agent.own_pids:
        message = "the agent is in a pid namespace of its own: it sees no process of other containers"
        yield warning("pids", message, "run it with `hostPID: true`, or `pid: host` in Compose")
    else:
        yield ok("pids", "the agent sees the node's processes")
    if agent.own_users:
        message = "the agent is in a user namespace of its own: its capabilities count in there alone"
        yield warning("user_namespace", message, "run it in the node's own, without userns-remap")


def _runtimes(sockets: Iterable[Path]) -> Iterator[Finding]:
    found = [*sockets, *(place for place in (Path(DOCKER),) if place.exists())]
    if not found:
        yield ok(RUNTIMES, "no container runtime is to be seen here: plain processes only (containers = local)")
    for place in found:
        if os.access(place, os.W_OK):
            yield ok(RUNTIMES, str(place))
        else:
            advice = "let the agent's user write to the socket"
            yield warning(RUNTIMES, f"{place} may not be used by uid {os.geteuid()}", advice)


def reach(agent: AgentFacts, needs: Needs, find: Callable[[str], str | None]) -> Iterator[Finding]:
    """Of one debugger: its programs, the machine, and which processes it comes to; `find` is like `shutil.which`."""
    yield from judge.programs(needs, find)
    if needs.machines and agent.machine not in needs.machines:
        message = f"this node is {agent.machine}; the debugger knows {', '.join(sorted(needs.machines))}"
        yield refused("architecture", Reason.ARCHITECTURE, message)
    if needs.traces and ("ptrace" in agent.blocked or (agent.ptrace_scope or 0) >= 3):
        yield refused("reach", Reason.PTRACE_DENIED, "nothing can be traced: see above")
        return
    of_others, in_containers = lacking(agent, needs)
    if of_others:
        message = f"only processes of uid {agent.uid}, without capabilities of their own"
        yield warning("reach", message, f"for all others give the agent {_named(of_others | in_containers)}")
    elif in_containers:
        what = "processes in other network namespaces" if needs.network else "libraries in containers"
        yield warning("reach", f"all processes, but not {what}", f"for those give the agent {_named(in_containers)}")
    else:
        yield ok("reach", "every process of this node")


def lacking(agent: AgentFacts, needs: Needs) -> tuple[set[Capability], set[Capability]]:
    """What the agent lacks for processes of other users, and for those in containers."""
    others = {Capability.SYS_PTRACE}
    if needs.traces:
        others |= {Capability.DAC_OVERRIDE, Capability.KILL}
    if needs.signals:
        others |= {Capability.KILL}
    if needs.directory:
        others |= {Capability.DAC_OVERRIDE, Capability.CHOWN}
    containers = {Capability.SYS_ADMIN} if needs.network or needs.libraries else set()
    containers |= {Capability.SYS_CHROOT} if needs.libraries else set()
    return others - agent.capabilities, containers - agent.capabilities


def _named(capabilities: Iterable[Capability]) -> str:
    return ", ".join(f"CAP_{each.name}" for each in sorted(capabilities))

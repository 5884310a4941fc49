"""What the facts mean for a debugger: findings. Pure."""

from collections.abc import Callable, Iterable, Iterator

from agent.preflight.facts import Facts, Home, Seccomp
from agent.preflight.finding import Finding, Level, ok, refused, warning
from agent.preflight.needs import MEGABYTE, Capability, Needs
from squash.reasons import Reason

Check = Callable[[Facts, Needs], Iterator[Finding]]


def judge(facts: Facts, needs: Needs) -> list[Finding]:
    """Every check, in the order in which a person would look."""
    return [finding for check in CHECKS for finding in check(facts, needs)]


def _tracer(facts: Facts, needs: Needs) -> Iterator[Finding]:
    target = facts.target
    if target.tracer:
        by = f"process {target.tracer}" + (f" ({target.tracer_name})" if target.tracer_name else "")
        message = f"process {facts.process.pid} is traced by {by}"
        if needs.traces:
            yield refused("tracer", Reason.TRACED_BY_OTHER, message)
        else:
            yield warning(
                "tracer", f"{message}, which may stop it", f"see whether process {target.tracer} is still needed"
            )
    else:
        yield ok("tracer", "nobody traces it")
    if target.state == "T" and not target.tracer:
        message = f"process {facts.process.pid} is stopped by a signal"
        advice = f"let it run on: kill -CONT {facts.process.pid}"
        if needs.runs_code:
            yield refused("state", Reason.DEBUGGER_UNSUITED, f"{message}, and code would have to run inside", advice)
        else:
            yield warning("state", message, advice)


def _ptrace_scope(facts: Facts, needs: Needs) -> Iterator[Finding]:
    scope = facts.agent.ptrace_scope
    if not needs.traces:
        return
    if scope is None:
        yield ok("ptrace_scope", "there is no Yama here")
    elif scope and not facts.target.may_trace and (scope >= 3 or facts.missing(Capability.SYS_PTRACE)):
        message = f"kernel.yama.ptrace_scope is {scope}: process {facts.process.pid} cannot be traced"
        advice = "give the agent CAP_SYS_PTRACE" if scope < 3 else "only a restart of the machine changes 3"
        yield refused("ptrace_scope", Reason.PTRACE_SCOPE, message, advice)
    else:
        yield ok("ptrace_scope", f"kernel.yama.ptrace_scope is {scope}")


def _seccomp(facts: Facts, needs: Needs) -> Iterator[Finding]:
    agent, target = facts.agent, facts.target
    if needs.traces and "ptrace" in agent.blocked:
        message = "the seccomp filter that the agent runs under refuses ptrace"
        yield refused(
            "seccomp", Reason.SECCOMP_DENIED, message, "run the agent with seccomp profile RuntimeDefault or Unconfined"
        )
    elif needs.traces and "process_vm_readv" in agent.blocked:
        message = "the seccomp filter that the agent runs under refuses process_vm_readv: memory is read more slowly"
        yield warning("seccomp", message, "run the agent with seccomp profile RuntimeDefault or Unconfined")
    if needs.runs_code and target.seccomp is Seccomp.STRICT:
        message = (
            f"process {facts.process.pid} is in seccomp's strict mode: any system call of a debugger would kill it"
        )
        yield refused("seccomp", Reason.SECCOMP_DENIED, message)
    elif target.seccomp is Seccomp.FILTER:
        yield ok("seccomp", "the process has a seccomp filter; what it lets through cannot be seen from outside")
    else:
        yield ok("seccomp", "the process has no seccomp filter")


def _user_namespace(facts: Facts, needs: Needs) -> Iterator[Finding]:
    target = facts.target
    if not target.other_users:
        return
    if not target.users_below:
        message = f"process {facts.process.pid} is in a user namespace that is not below the agent's: none of the "
        yield refused(
            "user_namespace",
            Reason.USER_NAMESPACE,
            f"{message}agent's capabilities counts there",
            "run the agent in the node's own user namespace",
        )
    elif target.uid_inside is None:
        message = f"user {facts.process.uid} of process {facts.process.pid} has no number in its own user namespace"
        yield warning("user_namespace", message, "map that user into the container's user namespace")
    else:
        numbers = f"user {target.uid_inside} in there is {facts.process.uid} here"
        yield ok("user_namespace", f"it has one of its own, below the agent's: {numbers}")


def _capabilities(facts: Facts, needs: Needs) -> Iterator[Finding]:
    target, pid = facts.target, facts.process.pid
    lacking = _lacking(facts, needs)
    if lacking:
        named = ", ".join(f"CAP_{each.name} {why}" for each, why in lacking.items())
        message = f"the agent (uid {facts.agent.uid}) lacks for process {pid} (uid {facts.process.uid}): {named}"
        yield refused("capabilities", Reason.CAPABILITY_MISSING, message)
    elif not target.may_look and facts.agent.own_users:
        message = f"process {pid} is outside of the agent's user namespace, where its capabilities do not count"
        advice = "run the agent in the node's own user namespace"
        yield refused("capabilities", Reason.USER_NAMESPACE, message, advice)
    elif not target.may_look or (needs.traces and not target.may_trace and not target.tracer):
        message = f"the kernel does not let the agent look at process {pid}, although its capabilities would do"
        yield refused("capabilities", Reason.PTRACE_DENIED, message, "see whether a security module forbids it")
    else:
        yield ok("capabilities", "the agent has those that this takes")
        if needs.libraries and target.other_files:
            yield from _libraries(facts)


def _lacking(facts: Facts, needs: Needs) -> dict[Capability, str]:
    """Each capability with what for. The kernel was asked where that does nothing; the rest is reckoned."""
    target = facts.target
    untraceable = needs.traces and not target.may_trace
    wanted = (
        (Capability.SYS_PTRACE, not target.may_look, "to look at it"),
        (Capability.SYS_PTRACE, untraceable, "to trace it"),
        (Capability.DAC_OVERRIDE, untraceable and facts.foreign, "to write its memory"),
        # Without it gdb and dlv hang half attached, and leave the process stopped.
        (Capability.KILL, (needs.traces or needs.signals) and not target.may_signal, "to signal it"),
        (Capability.CHOWN, needs.directory and facts.foreign, "to give it a socket"),
        (Capability.DAC_OVERRIDE, needs.directory and facts.foreign, "to take that away again"),
        (Capability.SYS_ADMIN, needs.network and target.other_network, "to enter its network namespace"),
    )
    needed = {capability: why for capability, applies, why in reversed(wanted) if applies}
    return {each: needed[each] for each in sorted(needed) if facts.missing(each)}


def _libraries(facts: Facts) -> Iterator[Finding]:
    lacking = facts.missing(Capability.SYS_ADMIN, Capability.SYS_CHROOT)
    if lacking:
        named = " and ".join(f"CAP_{each.name}" for each in lacking)
        message = "the process's libraries cannot be read, so nothing is known of what is in them"
        yield warning("libraries", message, f"give the agent {named}")


def _architecture(facts: Facts, needs: Needs) -> Iterator[Finding]:
    program = facts.target.program
    if program is None:
        if facts.target.may_look and (needs.symbols or needs.machines):
            message = f"process {facts.process.pid} has no native executable that can be read"
            yield refused("architecture", Reason.DEBUGGER_UNSUITED, message)
        return
    own = facts.agent.machine
    if needs.machines and (program.machine not in needs.machines or program.machine != own):
        known = ", ".join(sorted(needs.machines))
        message = (
            f"process {facts.process.pid} runs {program.machine} code on {own}; this debugger knows {known} at home"
        )
        yield refused("architecture", Reason.ARCHITECTURE, message)
    else:
        yield ok("architecture", f"{program.machine} on {own}")


def _libc(facts: Facts, needs: Needs) -> Iterator[Finding]:
    yield ok("libc", str(facts.target.libc))


def _file_systems(facts: Facts, needs: Needs) -> Iterator[Finding]:
    homes = facts.target.homes
    if not needs.directory or not facts.target.other_files:
        return
    troubles = {home.path: home.obstacle or _lacks(home, needs.files) for home in homes}
    obstacles = "; ".join(f"{path}: {trouble}" for path, trouble in troubles.items() if trouble)
    usable = next((path for path, trouble in troubles.items() if not trouble), "")
    if not usable:
        message = f"the debugger finds no place in the container of process {facts.process.pid} ({obstacles})"
        yield refused(
            "file_systems",
            Reason.FILES_UNREADABLE,
            message,
            "give it a /dev of its own, as runtimes do, or a writable /run or /tmp without noexec",
        )
    else:
        yield ok("file_systems", f"{usable} can be used" + (f" ({obstacles})" if obstacles else ""))


def _lacks(home: Home, files: int) -> str:
    if files and not home.executable:
        return "mounted noexec"
    if home.free >= files:
        return ""
    return f"{home.free // MEGABYTE} MiB free, and the debugger's files take {files // MEGABYTE}"


def _memory(facts: Facts, needs: Needs) -> Iterator[Finding]:
    memory = facts.target.memory
    if memory is None:
        yield ok("memory", "no limit is to be seen")
        return
    free, limit, adds = (round(size / MEGABYTE) for size in (memory.free, memory.limit, needs.memory))
    have = f"{free} MiB of the container's {limit} MiB are free"
    if needs.memory and memory.free < needs.memory:
        message = f"{have}, and this debugger adds about {adds} MiB: the kernel would kill a process of it"
        yield refused("memory", Reason.MEMORY_SHORT, message)
    elif needs.memory and memory.free < 2 * needs.memory:
        yield warning("memory", f"{have}, and this debugger adds about {adds} MiB", "raise the container's limit")
    else:
        yield ok("memory", have)


def _symbols(facts: Facts, needs: Needs) -> Iterator[Finding]:
    program = facts.target.program
    if not needs.symbols or program is None:
        return
    advice = "build it with -g, and do not strip it, or give your debugger a file with its symbols"
    if not program.symbols and not program.debug:
        yield warning("symbols", "the executable is stripped: no function or line is known by its name", advice)
    elif not program.debug:
        message = "the executable has no debug information: functions are known, lines and variables are not"
        yield warning("symbols", message, advice)
    elif program.optimised:
        message = "the executable was optimised: lines may come out of order, and variables be optimised out"
        yield warning("symbols", message, "build it with -O0 or -Og to see everything")
    else:
        yield ok("symbols", "the executable has debug information")


CHECKS: tuple[Check, ...] = (
    _tracer,
    _ptrace_scope,
    _seccomp,
    _user_namespace,
    _capabilities,
    _architecture,
    _libc,
    _file_systems,
    _memory,
    _symbols,
)


def programs(needs: Needs, find: Callable[[str], str | None]) -> Iterator[Finding]:
    """Whether the debugger's programs are there; `find` is like `shutil.which`."""
    for name in needs.programs:
        if place := find(name):
            yield ok("programs", f"{name} is {place}")
        else:
            yield refused("programs", Reason.DEBUGGER_MISSING, f"{name} is not on the agent's PATH")


def build_id(facts: Facts, symbols: str, file: str) -> Finding:
    """Whether a file with symbols, of this build id, belongs to the process's executable."""
    program = facts.target.program
    own = program.build_id if program else ""
    if not own or not symbols:
        whose = "the executable" if not own else f"'{file}'"
        advice = "link it with --build-id"
        return warning("build_id", f"{whose} has no build id, so nobody can tell whether they belong together", advice)
    if own != symbols:
        message = f"'{file}' has the symbols of build {symbols}, the process runs build {own}"
        return refused("build_id", Reason.SYMBOLS_MISMATCH, message)
    return ok("build_id", f"'{file}' belongs to the executable, build {own}")


def worst(findings: Iterable[Finding]) -> Level:
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)

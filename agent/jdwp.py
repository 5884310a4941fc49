"""The JDWP agent of a JVM: with which options it was started, and where it listens for a debugger."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from agent import jvm, jvmwords, netdiag
from agent.denied import denied
from agent.process import Process
from squash import procfs
from squash.errors import SquashError
from squash.reasons import Reason

Place = tuple[str, int]
"""Host and port."""
EVERYWHERE = frozenset({"*", "0.0.0.0", "::"})
LOOPBACK = frozenset({"127.0.0.1", "::1"})
_AGENT = re.compile(r"(?:^|\s)(?:-agentlib:jdwp=|-Xrunjdwp:|-agentpath:\S*libjdwp\.so=)(\S+)")
_LISTENS = re.compile(r"^sun\.jdwp\.listenerAddress=\S*?(\d+)$", re.MULTILINE)
_MAPPED = re.compile(r"\s(/\S*/(libjvm|libjdwp)\.so)$", re.MULTILINE)


@dataclass(frozen=True)
class Options:
    """Of a JVM's JDWP agent (JPDA, "Connection and Invocation Details")."""

    given: dict[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """From what stands after `-agentlib:jdwp=`."""
        return cls(dict(option.partition("=")[::2] for option in text.split(",")))

    def __str__(self) -> str:
        return ",".join(f"{name}={value}" for name, value in self.given.items()) or "options that only it knows"

    @property
    def host(self) -> str:
        """As written; empty where none is: loopback, but every interface before Java 9."""
        return self.given.get("address", "").rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """0: it chooses one itself, and another one each time it listens."""
        port = self.given.get("address", "").rpartition(":")[2]
        return int(port) if port.isascii() and port.isdecimal() else 0

    @property
    def waits(self) -> bool:
        """It starts only when it is told to, by `jcmd PID VM.start_java_debugging`."""
        return self.given.get("onjcmd") == "y"

    @property
    def unusable(self) -> str:
        """Why no debugger can connect to it, or none should; mostly empty."""
        if self.given.get("server") != "y":
            return "its JDWP dials a debugger instead of listening for one (server=n)"
        if self.given.get("transport") != "dt_socket":
            return f"its JDWP speaks over {self.given.get('transport')!r} and not over dt_socket"
        if "onthrow" in self.given or self.given.get("onuncaught") == "y":
            return "its JDWP starts only at an exception (onthrow, onuncaught)"
        if self.given.get("timeout", "0") != "0":
            return "its JDWP has a timeout, so the JVM would end itself that long after a debugger has left"
        return ""


@dataclass(frozen=True)
class Libraries:
    """Paths, as the process sees them, of the JVM and of its JDWP agent; empty where it is not loaded."""

    jvm: str = ""
    jdwp: str = ""

    @classmethod
    def of(cls, process: Process) -> Self:
        """Raises OSError when they may not be known."""
        maps = (procfs.PROC / str(process.pid) / "maps").read_text(errors="replace")
        paths = {name: path for path, name in _MAPPED.findall(maps)}
        return cls(paths.get("libjvm", ""), paths.get("libjdwp", ""))


def advice(process: Process, libraries: Libraries) -> str:
    """What to change so that the JVM can be debugged."""
    home = libraries.jvm.rpartition("/")[0].rpartition("/")[0]
    code = jvmwords.contents(process.root / home.lstrip("/") / "libjdwp.so")
    if not code:
        return "its Java runtime has no JDWP either: take one with the module jdk.jdwp.agent"
    # Only some releases know the option, and the others do not start with it.
    sleeps = "onjcmd=y," if b"onjcmd" in code else ""
    flag = f"-agentlib:jdwp=transport=dt_socket,server=y,suspend=n,quiet=y,{sleeps}address=127.0.0.1:0"
    return f"start it with {flag} (or put that into JAVA_TOOL_OPTIONS)"


def options(process: Process, *, ask: bool = True) -> Options:
    """With which JDWP was started; blocks. Raises SquashError when it was not, or no debugger can use it.

    `ask`: the JVM, where they are to be seen nowhere; without that they are then none.
    """
    pid = process.pid
    try:
        libraries = Libraries.of(process)
    except PermissionError:
        raise denied(process) from None
    except OSError as error:
        raise SquashError(Reason.PROCESS_GONE, f"process {pid} is gone") from error
    if not libraries.jdwp:
        message = f"the JVM {pid} was started without JDWP, which cannot be added later; {advice(process, libraries)}"
        raise SquashError(Reason.DEBUGGER_UNSUITED, message)
    found = _first(jvmwords.words(process)) or (
        _first([jvm.ask(process, "jcmd", "VM.command_line")]) if ask else Options()
    )
    if found is None:
        message = f"the JVM {pid} has JDWP, and nothing tells with which options; {advice(process, libraries)}"
        raise SquashError(Reason.DEBUGGER_UNSUITED, message)
    if found.given and (why := found.unusable):
        raise SquashError(Reason.DEBUGGER_UNSUITED, f"the JVM {pid}: {why}; {advice(process, libraries)}")
    return found


def listening(process: Process, options: Options, others: frozenset[Place] = frozenset()) -> list[Place]:
    """Where it may listen for a debugger now: `others` are sockets that are known to be something else."""
    found = netdiag.listening(process.pid) - others
    if options.port:
        return sorted(place for place in found if place[1] == options.port)[:1]
    # Java's own sockets speak IPv4 under addresses of IPv6; JDWP's do not.
    return sorted(place for place in found if _fits(options.host, place[0]))


def open_to_all(process: Process, options: Options) -> bool:
    """Whether JDWP listens on more than loopback."""
    if options.host:
        return options.host in EVERYWHERE
    # Before Java 9 no host meant every one.
    return not options.waits and any(host in EVERYWHERE for host, _ in listening(process, options))


def told(process: Process, places: list[Place]) -> Place | None:
    """Which of several places is JDWP's, by the JVM's own word. Blocks. Raises SquashError."""
    match = _LISTENS.search(jvm.ask(process, "agentProperties"))
    return next((place for place in places if match and place[1] == int(match[1])), None)


def _fits(wanted: str, host: str) -> bool:
    if wanted in EVERYWHERE:
        return host in EVERYWHERE
    if wanted in ("", "localhost"):
        return host in LOOPBACK | EVERYWHERE
    literal = re.fullmatch(r"[\d.]+|[\da-fA-F:]+", wanted)
    return host == wanted if literal else not host.startswith("::ffff:")


def _first(words: Iterable[str]) -> Options | None:
    # There is one at most: a JVM refuses to load it twice.
    return next((Options.parse(match[1]) for word in words if (match := _AGENT.search(word))), None)

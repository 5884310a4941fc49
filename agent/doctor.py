"""`squash-agent doctor`: what an agent started like this could do on this node, and to one process. Only looks."""

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from agent.debuggers import Debugger, choose, installed
from agent.elf import NotElfError
from agent.preflight import gather, judge, node
from agent.preflight.facts import AgentFacts
from agent.preflight.finding import Finding, Level
from agent.preflight.run import of_facts
from agent.process import Process
from agent.program import Program
from squash.debuggers import proper_name
from squash.errors import SettingError, SquashError
from squash.reasons import Reason

DONE, REFUSED, USAGE = 0, 1, 2
_EPILOG = """examples:
  squash-agent doctor                                what this node can do, debugger by debugger
  squash-agent doctor --pid 4242                     whether the process can be debugged, by whichever suits it
  squash-agent doctor --pid 4242 --debugger gdb --symbols ./shop.debug
  squash-agent doctor --json | jq '.debuggers'

Run it as the agent runs: the same user, the same capabilities, in the same container. It needs no other rights, touches
nothing, and works while an agent runs.

exit status:
  0  nothing that was asked for is refused (there may be warnings)
  1  the process cannot be debugged so, or is gone; without --pid: no debugger, or not the one named, can work here
  2  an argument cannot be used"""


class Report(NamedTuple):
    """What was found, by what it is about."""

    agent: AgentFacts
    node: list[Finding]
    debuggers: dict[str, list[Finding]]
    process: Process | None
    chosen: str
    """The debugger for the process."""
    findings: list[Finding]
    """Of the process."""

    @property
    def level(self) -> Level:
        """Of what was asked for."""
        if self.process:
            return judge.worst(self.findings)
        usable = [each for each in self.debuggers.values() if judge.worst(each) is not Level.REFUSED]
        return judge.worst(self.node) if usable else Level.REFUSED


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    asked = _parser().parse_args(argv)
    try:
        report = examine(installed(), asked.pid, asked.debugger, asked.symbols)
    except SettingError as error:
        sys.stderr.write(f"squash-agent doctor: {error}\n")
        return USAGE
    except SquashError as error:
        sys.stderr.write(f"squash-agent doctor: {error}\n")
        return REFUSED
    text = json.dumps(document(report), indent=1) if asked.json else "\n".join(lines(report))
    sys.stdout.write(text + "\n")
    return REFUSED if report.level is Level.REFUSED else DONE


def examine(
    debuggers: Mapping[str, Debugger], pid: int | None, name: str | None, symbols: Path | None = None
) -> Report:
    """Raises SettingError for a name or file that cannot be used, SquashError when there is no such process."""
    if name:
        name = proper_name(name, debuggers)
        if name not in debuggers:
            raise SettingError(f"--debugger {name} is not one of {', '.join(sorted(debuggers))}")
        debuggers = {name: debuggers[name]}
    if symbols and pid is None:
        raise SettingError("--symbols is about a process: give its --pid, too")
    agent = gather.agent()
    of_each = {each: list(node.reach(agent, found.needs, shutil.which)) for each, found in sorted(debuggers.items())}
    about = Report(agent, list(node.examine(agent)), of_each, None, "", [])
    if pid is None:
        return about
    process = Process.read(pid)
    if process is None:
        raise SquashError(Reason.PROCESS_NOT_FOUND, f"no process has the pid {pid}")
    chosen = next(iter(debuggers.values())) if name else choose(debuggers.values(), process)
    facts = gather.facts(process, agent, chosen.needs)
    findings = of_facts(chosen, facts)
    if symbols:
        findings.append(judge.build_id(facts, _build_id(symbols), str(symbols)))
    return about._replace(process=process, chosen=chosen.name, findings=findings)


def _build_id(file: Path) -> str:
    try:
        return Program.read(file).build_id
    except (NotElfError, OSError) as error:
        raise SettingError(f"--symbols '{file}' cannot be used: {error}") from error


def lines(report: Report) -> Iterator[str]:
    """The report for people."""
    agent = report.agent
    yield f"this agent: uid {agent.uid}, {agent.machine}"
    yield from _shown(report.node)
    for name, found in report.debuggers.items():
        yield f"debugger {name}"
        yield from _shown(found)
    if process := report.process:
        name = f"{process.comm}, uid {process.uid}"
        yield f"process {process.pid} ({name}) for {report.chosen}"
        yield from _shown(report.findings)


def _shown(findings: Iterable[Finding]) -> Iterator[str]:
    for each in findings:
        yield f"  {each.level:<8} {each.check:<14} {each.message}"
        if each.level is not Level.OK and each.remedy:
            yield f"{'':26}{each.remedy}"


def document(report: Report) -> dict[str, Any]:
    """The report for programs."""
    agent, process = report.agent, report.process
    found: dict[str, Any] = {
        "level": report.level,
        "agent": {
            "uid": agent.uid,
            "machine": agent.machine,
            "capabilities": [each.name for each in sorted(agent.capabilities)],
        },
        "node": [_told(each) for each in report.node],
        "debuggers": {name: [_told(each) for each in findings] for name, findings in report.debuggers.items()},
    }
    if process:
        findings = [_told(each) for each in report.findings]
        about = {"pid": process.pid, "name": process.comm, "uid": process.uid, "debugger": report.chosen}
        found["process"] = about | {"findings": findings}
    return found


def _told(finding: Finding) -> dict[str, str]:
    fields = {"check": finding.check, "level": finding.level.value, "message": finding.message}
    fields |= {"reason": finding.reason.value} if finding.reason else {}
    return fields | ({"remedy": finding.remedy} if finding.level is not Level.OK and finding.remedy else {})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "squash-agent doctor",
        description="Tells what an agent could do on this node, and to one process, and what to change.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--pid", type=_pid, metavar="PID", help="examine this process, too")
    parser.add_argument("--debugger", metavar="NAME", help="for this debugger alone; else for whichever suits best")
    parser.add_argument("--symbols", type=Path, metavar="FILE", help="whether these symbols are the executable's")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def _pid(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is no pid: a whole number above 0")
    return int(text)

"""The preflight of one debugger on one process: what holds for all debuggers, and what this one knows to ask."""

import shutil

from agent.debuggers import Debugger
from agent.preflight import gather, judge
from agent.preflight.facts import Facts
from agent.preflight.finding import Finding
from agent.process import Process


def examine(debugger: Debugger, process: Process) -> list[Finding]:
    """Every finding. Blocks for milliseconds; the process is only looked at. Raises SquashError when it is gone."""
    return of_facts(debugger, gather.facts(process, needs=debugger.needs))


def of_facts(debugger: Debugger, facts: Facts) -> list[Finding]:
    needs = debugger.needs
    found = [*judge.programs(needs, shutil.which), *judge.judge(facts, needs)]
    # Who may not look at a process would only guess.
    return [*found, *debugger.examine(facts)] if facts.target.may_look else found

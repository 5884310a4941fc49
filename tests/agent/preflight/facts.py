"""Facts made up for the judge: an agent that may everything, and a process that is nothing special."""

from dataclasses import replace
from typing import Any

from agent.libc import Libc
from agent.preflight.facts import AgentFacts, Facts, TargetFacts
from agent.preflight.needs import Capability
from agent.process import Process
from agent.program import Program

ROOT = AgentFacts(uid=0, capabilities=frozenset(Capability), machine="x86_64")
NOBODY = AgentFacts(uid=1000, capabilities=frozenset(), machine="x86_64")
PROGRAM = Program("x86_64", symbols=True, debug=True, optimised=False, build_id="abcd")


def process(uid: int = 0) -> Process:
    return Process(42, 7, 1, "shop", "/usr/bin/shop", ("shop",), uid, uid)


def facts(agent: AgentFacts = ROOT, uid: int = 0, **target: Any) -> Facts:
    """`target`: what differs from a process that the agent may do anything with."""
    plain = TargetFacts(process(uid), program=PROGRAM, libc=Libc("glibc", "2.36"))
    return Facts(agent, replace(plain, **target))

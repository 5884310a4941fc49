"""What a DAP session may do, and what is written down of it. Commands are in lower case: debugpy takes any."""

from typing import Any

import msgspec

from agent.protocols.dap_messages import arguments, runs_code, set_breakpoints
from agent.protocols.interpreter import Event
from squash.model import Action

ENDS = frozenset({"disconnect", "terminate"})
READ_ONLY = "this session may look, but change nothing"
LOOKS_ONLY = "only its owner stops and steers a process"

_LOOKS = ENDS | {
    "attach",
    "breakpointlocations",
    "cancel",
    "configurationdone",
    "databreakpointinfo",
    "debugpysysteminfo",
    "disassemble",
    "exceptioninfo",
    "gototargets",
    "initialize",
    "loadedsources",
    "locations",
    "modules",
    "pydevdsysteminfo",
    "readmemory",
    "scopes",
    "source",
    "pause",
    "stacktrace",
    "stepintargets",
    "threads",
    "variables",
}
_STEERS = {
    "continue": "continue",
    "next": "step",
    "stepin": "step",
    "stepout": "step",
    "stepback": "step",
    "reversecontinue": "continue",
}
_CHANGES = {
    "goto": "goto",
    "launch": "launch",
    "restart": "restart",
    "restartframe": "restartFrame",
    "setdebuggerproperty": "setDebuggerProperty",
    "setexpression": "setExpression",
    "setvariable": "setVariable",
    "terminatethreads": "terminateThreads",
    "writememory": "writeMemory",
}
_QUIET = ("hover", "watch")
"""Contexts in which a client evaluates by itself: no pop-up for each of those."""


def sets_breakpoints(command: str) -> bool:
    return command.startswith("set") and command.endswith("breakpoints")


def refusal(command: str, given: msgspec.Raw, *, looks_only: bool) -> str:
    """Why a session that may change nothing may not ask this; empty when it may. Raises ViolationError.

    `looks_only`: nor may it stop or steer.
    """
    if looks_only and _stops_or_steers(command, given):
        return f"{READ_ONLY}, and {LOOKS_ONLY}"
    if command in _LOOKS or command in _STEERS:
        return ""
    if sets_breakpoints(command):
        runs = runs_code(arguments(given))
        return f"{READ_ONLY}, and conditions, hit counts and log messages run code in the process" if runs else ""
    code = command in ("evaluate", "completions")
    what = "evaluating runs code in the process" if code else f"{command!r:.40} is not known to change nothing"
    if command in _CHANGES:
        what = f"{_CHANGES[command]} changes it"
    return f"{READ_ONLY}, and {what}"


def _stops_or_steers(command: str, given: msgspec.Raw) -> bool:
    if sets_breakpoints(command):
        return set_breakpoints(given).any
    return command == "pause" or command in _STEERS


def shown(command: str, given: msgspec.Raw) -> bool:
    """Whether a refusal is worth a pop-up."""
    return command != "completions" and arguments(given).get("context") not in _QUIET


def ends_process(command: str, given: msgspec.Raw) -> bool:
    """Whether the request would end the process, or leave it stopped for good."""
    if command == "terminate":
        return True
    wants = arguments(given)
    return command == "disconnect" and bool(wants.get("terminateDebuggee") or wants.get("suspendDebuggee"))


def detached(given: msgspec.Raw) -> dict[str, Any]:
    """The arguments of the `disconnect` that takes the place of such a request."""
    return {**arguments(given), "terminateDebuggee": False, "suspendDebuggee": False, "restart": False}


def event(command: str, given: msgspec.Raw) -> Event | None:
    """What is written down of a request that is passed on: never an expression, a name or a value of the process."""
    if command == "evaluate":
        context = arguments(given).get("context")
        return Event(Action.EVALUATED, context if context in ("repl", "clipboard", "variables", *_QUIET) else "")
    if command in _CHANGES:
        return Event(Action.CHANGED, _CHANGES[command])
    if command in _STEERS:
        return Event(Action.RESUMED, _STEERS[command])
    if command == "pause":
        return Event(Action.PAUSED)
    if sets_breakpoints(command) and (wanted := set_breakpoints(given)).any:
        count = len(wanted.breakpoints or wanted.filters or wanted.filterOptions or [])
        return Event(Action.BREAKPOINTS, f"{count} in {wanted.place}" if wanted.place else f"{count}, {command}")
    return None

"""What a session of delve's JSON-RPC may do, and what is written down of it.

Source: delve's Documentation/api and service/rpc2. Methods are named exactly; the keys of their arguments are told
apart by letters alone, not by case, as delve's decoder does, so they come here in lower case.
"""

from collections.abc import Mapping
from typing import Any

from agent.protocols.interpreter import Event
from agent.terms import Terms
from squash.model import Action

READ_ONLY = "this session may look, but change nothing"
LOOKS_ONLY = "only its owner stops and steers a process"
Argument = Mapping[str, Any]

_LOOKS = frozenset(
    {
        *("ProcessPid", "LastModified", "State", "BuildID", "GetVersion", "SetApiVersion", "Recorded", "ListTargets"),
        *("GetBreakpoint", "ListBreakpoints", "GetBufferedTracepoints", "AttachedToExistingProcess", "IsMulticlient"),
        *("Stacktrace", "Ancestors", "ListThreads", "GetThread", "ListGoroutines", "ListCheckpoints"),
        *("ListPackageVars", "ListRegisters", "ListLocalVars", "ListFunctionArgs", "Eval", "ExamineMemory"),
        *("ListSources", "ListFunctions", "ListTypes", "FindLocation", "Disassemble", "FunctionReturnLocations"),
        *("ListDynamicLibraries", "ListPackagesBuildInfo", "FollowExecEnabled", "GuessSubstitutePath", "Detach"),
    }
)
_STEERS = frozenset(
    {
        *("Command", "CreateBreakpoint", "ClearBreakpoint", "ToggleBreakpoint", "AmendBreakpoint"),
        *("CreateWatchpoint", "CancelNext"),
    }
)
_NEVER = {
    "Restart": "the process is a service, and is not started again by a debugger",
    "Checkpoint": "there is no recording",
    "ClearCheckpoint": "there is no recording",
    "StopRecording": "there is no recording",
    "DumpStart": "a core file would be written where the agent runs",
    "CreateEBPFTracepoint": "probes in the kernel would outlive the session",
    "DebugInfoDirectories": "delve reads the files of the agent's machine",
    "DownloadLibraryDebugInfo": "delve would fetch files to the agent's machine",
    "FollowExec": "nobody would see to it that other processes are freed",
}
RESUMES = {
    "continue": "continue",
    "directionCongruentContinue": "continue",
    "rewind": "continue",
    "call": "call",
    **dict.fromkeys(("next", "step", "stepOut", "stepInstruction", "nextInstruction"), "step"),
    **dict.fromkeys(("reverseNext", "reverseStep", "reverseStepOut"), "step"),
    **dict.fromkeys(("reverseStepInstruction", "reverseNextInstruction"), "step"),
}
"""Names of the method Command that let the process run."""
HALT = "halt"
_CHOOSES = frozenset({"switchThread", "switchGoroutine"})
_STEPS = _CHOOSES | RESUMES.keys() | {HALT}


def command(method: str, given: Argument) -> str:
    """The name of what Command is to do; empty for other methods."""
    name = given.get("name") if method == "Command" else ""
    return name if isinstance(name, str) else ""


def breakpoint_of(given: Argument) -> Argument:
    found = given.get("breakpoint")
    return found if isinstance(found, dict) else {}


def place(given: Argument) -> str:
    """Of the breakpoint that is to be made, as a developer would name it."""
    wanted = breakpoint_of(given)
    if wanted.get("file"):
        return f"{wanted['file']}:{wanted.get('line')}"
    for name in (given.get("locexpr"), wanted.get("functionname"), wanted.get("name")):
        if isinstance(name, str) and name:
            return name
    address = wanted.get("addr")
    return hex(address) if isinstance(address, int) and address else "?"


def refusal(method: str, given: Argument, terms: Terms) -> str:
    """Why the session may not ask this; empty when it may."""
    if method == "SetApiVersion" and given.get("apiversion") not in (0, 2, None):
        return "only version 2 of the API is spoken here"
    if method in _NEVER:
        return _NEVER[method]
    if not terms.read_only or method in _LOOKS:
        return ""
    why = _changes(method, given)
    if not why and terms.looks_only and command(method, given) not in _HARMLESS:
        why = LOOKS_ONLY
    return why and f"{READ_ONLY}, and {why}"


def _changes(method: str, given: Argument) -> str:
    """Why something could change the process; empty when it only stops and steers."""
    name = command(method, given)
    if name == "call":
        return "calling a function runs code in the process"
    if method not in _STEERS or (method == "Command" and name not in _STEPS):
        return f"{name or method!r:.40} is not known to change nothing"
    if "(" in str(breakpoint_of(given).get("cond") or ""):
        return "the condition calls something"
    return ""


# The process stands since the client came: that it goes on is what everybody wants.
_HARMLESS = _CHOOSES | {"continue"}


def event(method: str, given: Argument) -> Event | None:
    """What is written down of a request that is passed on: never an expression or a value of the process."""
    name = command(method, given)
    if name == "call" or method == "Eval":
        return Event(Action.EVALUATED, name)
    if name in RESUMES:
        return Event(Action.RESUMED, RESUMES[name])
    if name == HALT:
        return Event(Action.PAUSED)
    if method == "CreateBreakpoint":
        return Event(Action.BREAKPOINTS, f"1 in {place(given)}")
    return _NOTED.get(method)


_NOTED = {
    "Set": Event(Action.CHANGED, "setVariable"),
    "CreateWatchpoint": Event(Action.BREAKPOINTS, "1, CreateWatchpoint"),
    "AmendBreakpoint": Event(Action.BREAKPOINTS, "1, AmendBreakpoint"),
    "ToggleBreakpoint": Event(Action.BREAKPOINTS, "1, ToggleBreakpoint"),
}

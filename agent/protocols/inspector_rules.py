"""What a session of Node's inspector may do, and what is written down of it (Chrome DevTools Protocol)."""

import re
from collections.abc import Mapping
from typing import Any

from agent.protocols.interpreter import Event
from agent.terms import Terms
from squash.model import Action

READ_ONLY = "this session may look, but change nothing"
LOOKS_ONLY = "only its owner stops and steers a process"
GATE = "Runtime.runIfWaitingForDebugger"
"""What clients say when the program may run: VS Code once its breakpoints are set, node and DevTools at the start."""
ENABLE = "Debugger.enable"
SKIP = "Debugger.setSkipAllPauses"
ENDS = frozenset({"Runtime.terminateExecution", "Browser.close", "Browser.crash"})
BREAKPOINTS = frozenset(
    {"Debugger.setBreakpoint", "Debugger.setBreakpointByUrl", "Debugger.setBreakpointOnFunctionCall"}
)
_TRIES = frozenset({"Runtime.evaluate", "Runtime.callFunctionOn", "Debugger.evaluateOnCallFrame"})
"""What V8 can carry out so that it stops at the first effect."""
_EVALUATES = _TRIES | {"Runtime.runScript"}
_CHANGES = frozenset(
    {
        "Debugger.restartFrame",
        "Debugger.setReturnValue",
        "Debugger.setScriptSource",
        "Debugger.setVariableValue",
        "Runtime.addBinding",
        "Runtime.compileScript",
    }
)
_STEERS = {
    "Debugger.continueToLocation": "continue",
    "Debugger.resume": "continue",
    "Debugger.stepInto": "step",
    "Debugger.stepOut": "step",
    "Debugger.stepOver": "step",
}
_PAUSE = "Debugger.pause"
_STOPS = BREAKPOINTS | {_PAUSE, SKIP, "Debugger.setBreakpointsActive", "Debugger.setInstrumentationBreakpoint"}
_LOOKS = frozenset(
    {
        *(f"Debugger.{name}" for name in ("disable", "enable", "getPossibleBreakpoints", "getScriptSource")),
        *(f"Debugger.{name}" for name in ("getStackTrace", "getWasmBytecode", "pause", "removeBreakpoint")),
        *(f"Debugger.{name}" for name in ("searchInContent", "setAsyncCallStackDepth", "setBlackboxPatterns")),
        *(f"Debugger.{name}" for name in ("setBlackboxedRanges", "setBreakpointsActive", "setPauseOnExceptions")),
        *(f"Debugger.{name}" for name in ("setInstrumentationBreakpoint", "setSkipAllPauses")),
        *(f"Runtime.{name}" for name in ("disable", "discardConsoleEntries", "enable", "getHeapUsage", "getIsolateId")),
        *(f"Runtime.{name}" for name in ("getProperties", "globalLexicalScopeNames", "releaseObject")),
        *(f"Runtime.{name}" for name in ("releaseObjectGroup", "setAsyncCallStackDepth")),
        *(f"Runtime.{name}" for name in ("setCustomObjectFormatterEnabled", "setMaxCallStackSizeToCapture")),
        "Profiler.disable",
        "Profiler.enable",
        "NodeRuntime.disable",
        "NodeRuntime.enable",
        "NodeWorker.disable",
        "Schema.getDomains",
        GATE,
    }
)
"""What a session that may only look may ask, besides what is looked at more closely; all else is refused."""
_ENVIRONMENT = re.compile(r"\s*Object\.assign\(process\.env,.*NODE_OPTIONS", re.DOTALL)
FOREIGN = (
    "it would have every program that the service starts load a file of the developer's machine; "
    'say "autoAttachChildProcesses": false in launch.json'
)


def refusal(method: str, params: Mapping[str, Any], terms: Terms) -> str:
    """Why a session may not ask this; empty when it may."""
    if method in ENDS:
        return "" if terms.may_end else "this session may not end the process"
    if method == "Runtime.evaluate" and _ENVIRONMENT.match(str(params.get("expression"))):
        return FOREIGN
    return _too_much(method, params, looks_only=terms.looks_only) if terms.read_only else ""


def _too_much(method: str, params: Mapping[str, Any], *, looks_only: bool) -> str:
    """Why a session that may change nothing may not ask this; empty when it may."""
    if looks_only and (method in _STOPS or method in _STEERS or _at_exceptions(method, params)):
        return f"{READ_ONLY}, and {LOOKS_ONLY}"
    tries = method in _TRIES and params.get("throwOnSideEffect") is True
    if method in _LOOKS or method in _STEERS or tries or (method in BREAKPOINTS and not params.get("condition")):
        return ""
    what = f"{method!r:.60} is not known to change nothing"
    if method in BREAKPOINTS:
        what = "a condition runs code in the process"
    elif method in _EVALUATES:
        what = "evaluating runs code in the process"
    elif method in _CHANGES:
        what = f"{_name(method)} changes it"
    return f"{READ_ONLY}, and {what}"


def _at_exceptions(method: str, params: Mapping[str, Any]) -> bool:
    return method == "Debugger.setPauseOnExceptions" and params.get("state") != "none"


def refused(method: str) -> Event:
    """What is written down of a request that is not passed on."""
    action = Action.TERMINATION_REFUSED if method in ENDS else Action.REFUSED
    known = method in _LOOKS | _EVALUATES | _CHANGES | _STOPS | ENDS or method in _STEERS
    return Event(action, method if known else "an unknown method")


def event(method: str, params: Mapping[str, Any]) -> Event | None:
    """What is written down of a request that is passed on: never an expression, a name or a value of the process."""
    if method in BREAKPOINTS:
        return Event(Action.BREAKPOINTS, f"1 in {place(params)}")
    for kind, action in ((ENDS, Action.TERMINATED), (_CHANGES, Action.CHANGED)):
        if method in kind:
            return Event(action, _name(method))
    if method in _STEERS:
        return Event(Action.RESUMED, _STEERS[method])
    alone = {_PAUSE: Action.PAUSED, **dict.fromkeys(_EVALUATES, Action.EVALUATED)}
    return Event(alone[method]) if method in alone else None


def place(params: Mapping[str, Any]) -> str:
    """Where a breakpoint is wanted, as people count lines."""
    at = params.get("location")
    location = at if isinstance(at, Mapping) else params
    where = params.get("url") or params.get("urlRegex") or location.get("scriptId") or params.get("objectId") or "?"
    line = location.get("lineNumber")
    return f"{where}:{line + 1}" if isinstance(line, int) else str(where)


def spot(method: str, params: Mapping[str, Any]) -> tuple[str, ...]:
    """The same for two requests that V8 takes for the same breakpoint."""
    at = params.get("location")
    location = at if isinstance(at, Mapping) else params
    script = params.get("url") or params.get("urlRegex") or params.get("scriptHash") or location.get("scriptId")
    return method, str(script), str(location.get("lineNumber")), str(location.get("columnNumber") or 0)


def _name(method: str) -> str:
    return method.rpartition(".")[2]

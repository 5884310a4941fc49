"""What a developer sees of a debugging session while it goes on: lines and a spinner, or JSON events."""

import sys
import time
from contextlib import ExitStack
from typing import Any

from squash.cli.describe import container, patience
from squash.cli.follow import AWAY
from squash.cli.output import Output, Progress
from squash.cli.streams import as_json
from squash.model import DebugAttachment, Outcome, Phase, State

_PHASES = {
    Phase.RESOLVING: "the agent looks for the process",
    Phase.STARTING: "attaching",
    Phase.LISTENING: "the debugger is attached",
    Phase.CLIENT_CONNECTED: "a client is connected",
    Phase.READY: "ready: the breakpoints are set",
    Phase.RELEASED: "released",
    Phase.DETACHED: "detached, the process runs on",
}


class Telling:
    """Writes each step once. With `--json` one document a line to stdout; else lines to stderr, results to stdout."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._stack = ExitStack()
        self._progress: Progress | None = None
        self._known: DebugAttachment | None = None
        self._shown: set[str] = set()
        self.muted = False
        """Something else has the terminal."""
        self._unheard = False
        """What was to be told could not be written."""

    def start(self) -> None:
        """Begins to show what is waited for."""
        self._progress = self._stack.enter_context(self._output.progress())

    def stop(self) -> None:
        """Gives the terminal back as it was."""
        self._stack.close()
        self._progress = None

    def event(self, name: str, text: str, **facts: Any) -> None:
        """One step; `text` in words, `facts` for programs. When nobody reads on: OSError, once."""
        if self._unheard:
            return
        self._unheard = True
        if self._output.as_json:
            known = {key: value for key, value in facts.items() if value is not None}
            sys.stdout.write(as_json({"event": name, "time": time.time()} | known) + "\n")
            sys.stdout.flush()
        elif self._progress:
            self._progress.reached(text)
        elif not self.muted:
            self._output.note(text)
        self._unheard = False

    def result(self, *lines: str) -> None:
        """What is to be copied."""
        if not self._output.as_json:
            self._output.lines(*lines)
            sys.stdout.flush()

    def now(self, text: str) -> None:
        """What is waited for."""
        if self._progress:
            self._progress.now(text)

    def away(self) -> None:
        self.now(AWAY)

    def attachment(self, now: DebugAttachment) -> None:
        """What changed since the last time."""
        if self._known is None:
            self._began(now)
        self._step(now)
        if now.status.outcome and "let_go" not in self._shown:
            self._shown.add("let_go")
            self._let_go(now, now.status.outcome)
        self._known = now
        self.now(_waits_for(now))

    def _began(self, now: DebugAttachment) -> None:
        spec, times = now.spec, now.status.times or {}
        since = times.get(State.NONE.value)
        known = {"attachment": now.name, "image": spec.image, "node": spec.node, "container": spec.attachment}
        if not spec.holder and not spec.held:
            self.event("attachment", f"container {container(now)} on node {spec.node or '?'}", **known)
            return
        held = spec.held
        what = " ".join(part for part in (held.method, held.path) if part) if held else ""
        clock = time.strftime(" since %H:%M:%S", time.localtime(since)) if since else ""
        text = f"request held: {what or 'a marked request'} at {container(now)}{clock}"
        left = patience(now, time.time())
        text += f"; {left}" if left else ""
        facts = {"method": held.method, "path": held.path, "budget": held.budget} if held else {}
        self.event("held", text, **known, **facts, since=since)

    def _step(self, now: DebugAttachment) -> None:
        status = now.status
        phase = status.phase
        if phase not in _PHASES or phase.value in self._shown or (phase is Phase.DETACHED and not status.pid):
            return
        self._shown.add(phase.value)
        text = _PHASES[phase]
        if phase is Phase.STARTING:
            text += f": {status.debugger} to process {status.pid}"
        if phase is Phase.READY and status.message:
            text += f" ({status.message})"
        message = status.message if phase is Phase.READY else None
        facts = {"pid": status.pid, "debugger": status.debugger, "protocol": status.protocol, "message": message}
        self.event(phase.value, text, **(facts if phase is not Phase.RESOLVING else {}))

    def _let_go(self, now: DebugAttachment, outcome: Outcome) -> None:
        times = now.status.times or {}
        held = times.get("let_go", 0.0) - times.get(State.NONE.value, 0.0)
        self.event("let_go", f"the request was let go after {held:.2f} s: {outcome}", outcome=outcome, held=held)


def _waits_for(now: DebugAttachment) -> str:
    status = now.status
    if status.phase is Phase.READY:
        return "debugging; Ctrl-C detaches"
    if status.phase is Phase.CLIENT_CONNECTED:
        return "a client is connected; the request goes on when its breakpoints are set"
    if status.phase is Phase.LISTENING:
        return "waiting for a client to connect; Ctrl-C detaches"
    if status.state is State.NONE:
        return f"waiting for the agent on node {now.spec.node or '?'}"
    return "the debugger is being attached"

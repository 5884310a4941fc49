"""The GDB remote serial protocol, watched. What a client may do is decided further in: by the guard."""

from agent import rsp, verdicts
from agent.protocols.interpreter import Event, Flow, Interpreter, Kept
from agent.terms import ORDINARY, Terms
from agent.verdicts import Kind
from squash.model import Action
from squash.reasons import Reason

_ACTIONS = {
    Kind.CHANGE: Action.CHANGED,
    Kind.RESUME: Action.RESUMED,
    Kind.KILL: Action.TERMINATED,
}
SHOWN = 5
"""Breakpoints that are named in remarks."""


class Gdb(Interpreter):
    """Ready at the client's first continue: gdb inserts its breakpoints just before it.

    Its breakpoints come back with the client, which inserts them anew each time it lets the process run.
    """

    violation = rsp.ViolationError

    def __init__(self, terms: Terms = ORDINARY, kept: Kept | None = None) -> None:
        super().__init__(terms, kept)
        self._splitter = rsp.Splitter()
        self._answers = rsp.Splitter()
        self._inserting: rsp.Point | None = None
        """The breakpoint whose answer is due."""
        self._refused: dict[rsp.Point, None] = {}
        self._waits = False
        """For the process to stop; only then may it be told something unasked."""

    def _client_says(self, data: bytes, flow: Flow) -> None:
        flow.server.append(data)
        for token in self._splitter.feed(data):
            if token[:1] == b"$":
                self._asked(rsp.body(token), flow)

    def _asked(self, text: bytes, flow: Flow) -> None:
        self._inserting = rsp.Point.parse(text) if text[:1] == b"Z" else None
        kind, what = verdicts.kind(text)
        self._waits = kind is Kind.RESUME
        if verdicts.continues(text):
            self.ready = True
        if kind in (Kind.LEAVE, Kind.KILL):
            self.left = True
        if kind is Kind.KILL and not self.terms.may_end:
            flow.events.append(Event(Action.TERMINATION_REFUSED, what))
        elif self.terms.read_only and not verdicts.looks(text, None):
            flow.events.append(Event(Action.REFUSED, what))
        elif action := _ACTIONS.get(kind):
            flow.events.append(Event(action, what))

    def _server_says(self, data: bytes, flow: Flow) -> None:
        flow.client.append(data)
        for token in self._answers.feed(data):
            if token[:1] == b"$" and self._inserting:
                self._inserted(self._inserting, rsp.body(token))
                self._inserting = None

    def _inserted(self, point: rsp.Point, answer: bytes) -> None:
        # An empty answer means that gdb is to find another way.
        if answer.startswith(b"E"):
            self._refused[point] = None
        else:
            self._refused.pop(point, None)

    def remarks(self) -> str:
        if not self._refused:
            return ""
        shown = ", ".join(f"{point.address:#x}" for point in list(self._refused)[:SHOWN])
        more = f" and {len(self._refused) - SHOWN} more" if len(self._refused) > SHOWN else ""
        return f"breakpoints that gdbserver did not take: {shown}{more}"

    def _held_back(self) -> tuple[bytes, bytes]:
        return b"", b""

    def last_words(self, words: str) -> bytes:
        return rsp.packet(b"O" + f"squash: {words}\n".encode().hex().encode()) if self._waits else b""

    @classmethod
    def turned_away(cls, said: bytes, reason: Reason, words: str) -> bytes:
        try:
            tokens = rsp.Splitter().feed(said)
        except rsp.ViolationError:
            return b"-"
        asked = any(token[:1] == b"$" for token in tokens)
        return b"+" + rsp.packet(rsp.error(words, named=True)) if asked else b""

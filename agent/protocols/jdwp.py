"""The Java Debug Wire Protocol between a debugger and a JVM, watched and followed.

The handshake with the JVM is over when a session begins (agent.debuggers.jdwp); the one with the debugger is not.
"""

from agent.protocols import jdwp_rules as rules
from agent.protocols.interpreter import Event, Flow, Interpreter, Kept
from agent.protocols.jdwp_packets import (
    HANDSHAKE,
    LONGEST_COMMAND,
    Packet,
    Reader,
    ViolationError,
    Wish,
    command,
    failure,
    wish,
)
from agent.terms import ORDINARY, Terms
from squash.model import Action
from squash.reasons import Reason

SHOWN = 5
"""Classes that are named in remarks."""


class Jdwp(Interpreter):
    """Ready when every breakpoint is answered, and the client has said `Resume` or sets no more for a while.

    A debugger that attaches to a running JVM has nothing to resume: jdb, IntelliJ and VS Code never say so. And only
    jdb's user knows which breakpoint was the last one. So silence has to do.

    Breakpoints do not come back with a client: their classes have other numbers in each connection.
    """

    violation = ViolationError

    def __init__(self, terms: Terms = ORDINARY, kept: Kept | None = None) -> None:
        super().__init__(terms, kept)
        self._client = Reader(LONGEST_COMMAND)
        self._server = Reader(greeted=True)
        self._unanswered: set[int] = set()
        """Commands, by number."""
        self._open: dict[int, Wish] = {}
        """Breakpoints that are not answered yet, by the number of their command."""
        self._set = 0
        self._refused: list[int] = []
        """Error codes."""
        self._awaited: dict[str, None] = {}
        """Classes for which the client waits to be loaded."""
        self._resumed = False
        self._drops = False
        """What comes of the client's packet goes nowhere."""

    def _client_says(self, data: bytes, flow: Flow) -> None:
        for said in self._client.feed(data):
            if said is None:
                flow.client.append(HANDSHAKE)
            elif isinstance(said, Packet):
                self._drops = False
                self._asked(said, flow)
            elif not self._drops:
                flow.server.append(said)

    def _asked(self, packet: Packet, flow: Flow) -> None:
        raw = packet.raw
        if packet.reply:
            flow.server.append(raw)
            return
        if packet.command == rules.EXIT and not self.terms.may_end:
            flow.events.append(Event(Action.TERMINATION_REFUSED, "Exit"))
            raw, self._drops = command(packet.id, rules.DISPOSE), True
        elif what := rules.refusal(packet, self.terms):
            flow.events.append(Event(Action.REFUSED, what))
            flow.client.append(failure(packet.id))
            self._drops = True
            return
        elif noted := rules.event(packet):
            flow.events.append(noted)
        self._unanswered.add(packet.id)
        if packet.command == rules.SET_EVENT and rules.stops(asked := wish(packet.body)):
            self._open[packet.id] = asked
            self.stirred += 1
        self._resumed = self._resumed or packet.command == rules.RESUME
        self.left = self.left or packet.command in (rules.DISPOSE, rules.EXIT)
        self._look()
        flow.server.append(raw)

    def _server_says(self, data: bytes, flow: Flow) -> None:
        for said in self._server.feed(data):
            if isinstance(said, Packet):
                flow.client.append(said.raw)
                if said.reply:
                    self._answered(said)
            elif said is not None:
                flow.client.append(said)

    def _answered(self, packet: Packet) -> None:
        self._unanswered.discard(packet.id)
        asked = self._open.pop(packet.id, None)
        if asked is None:
            return
        if packet.error:
            self._refused.append(packet.error)
        elif asked.kind == rules.CLASS_PREPARE:
            self._awaited.update(dict.fromkeys(asked.classes))
        else:
            self._set += 1
        self.stirred += 1
        self._look()

    def calm(self) -> bool:
        if self._unanswered:
            return False
        self.ready = self.ready or not self.terms.looks_only
        return True

    def _look(self) -> None:
        self.ready = self.ready or (self._resumed and not self._open and not self.terms.looks_only)

    def remarks(self) -> str:
        said = []
        if self._refused:
            codes = ", ".join(str(code) for code in sorted(set(self._refused)))
            said.append(f"breakpoints that the JVM did not take: {len(self._refused)} (JDWP error {codes})")
        if self._awaited and not self._set:
            names = list(self._awaited)
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            said.append(f"no breakpoint is set yet: they wait for {', '.join(names[:SHOWN])}{more} to be loaded")
        return "; ".join(said)

    def _held_back(self) -> tuple[bytes, bytes]:
        return self._client.unread(), self._server.unread()

    def last_words(self, words: str) -> bytes:
        return b""  # the protocol has no words for it

    @classmethod
    def turned_away(cls, said: bytes, reason: Reason, words: str) -> bytes:
        # In place of the handshake. Debuggers say that it is none; who looks at the connection reads why.
        return f"squash: {words}\n".encode() if len(said) >= len(HANDSHAKE) else b""

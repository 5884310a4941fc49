"""The Debug Adapter Protocol between a client and its debug server.

Messages are passed on as they are while nothing was said on anybody's behalf; what the server says once the gate is
open, and while no answer is waited for, even unread. Afterwards those for the client are numbered anew, for their
numbers must go up by one; what the server asks by a new number is answered by its own.
"""

import msgspec

from agent.protocols import dap_rules as rules
from agent.protocols.dap_messages import (
    Message,
    breakpoints,
    changed,
    decode,
    plain,
    set_breakpoints,
)
from agent.protocols.interpreter import Event, Flow, Interpreter, Kept
from agent.terms import ORDINARY, Terms
from squash.dap import Reader, Skimmer, ViolationError, frame, header, message
from squash.model import Action
from squash.reasons import Reason

SHOWN = 5
"""Breakpoints named in the remarks; of more than these the number is given."""
OURS = 1 << 30
"""From here on the numbers of requests that we make of the server."""
REFUSAL = 8601
"""`body.error.id` of our refusals: one number for each kind of error, as the specification wants it."""


class Dap(Interpreter):
    """Ready when configurationDone and every request that sets breakpoints are answered.

    Data and instruction breakpoints do not count: pydevd, which has none, leaves those requests without an answer.
    """

    violation = ViolationError

    def __init__(self, terms: Terms = ORDINARY, kept: Kept | None = None) -> None:
        super().__init__(terms, kept)
        self._client = Reader()
        self._server = Reader()
        self._skimmer = Skimmer()
        self._shift = 0
        """By how much the numbers that the client sees are ahead of the server's."""
        self._last = 0
        """The last number that the client saw."""
        self._reverse: dict[int, int] = {}
        """What the server asks of the client: its own numbers by those that the client sees."""
        self._open: dict[int, Message] = {}
        """Requests that the gate waits for, or whose answer must be changed, by number."""
        self._ours: set[int] = set()
        """Requests of our own, whose answers the client does not see."""
        self._configured = False
        self._unverified: dict[str, list[str]] = {}
        self._set: dict[tuple[str, str], bytes] = {}

    # -- client to server ---------------------------------------------------------------------------

    def _client_says(self, data: bytes, flow: Flow) -> None:
        for raw in self._client.feed(data):
            said = decode(raw)
            if said.type == "request":
                self._request(said, raw, flow)
            elif said.type == "response":
                number = self._reverse.pop(said.request_seq, said.request_seq)
                flow.server.append(frame(raw if number == said.request_seq else changed(raw, request_seq=number)))
            elif self.terms.read_only:
                raise ViolationError(f"a message of type {said.type!r:.40}")
            else:
                flow.server.append(frame(raw))

    def _request(self, said: Message, raw: bytes, flow: Flow) -> None:
        command = said.command.lower()
        ends = command in rules.ENDS and rules.ends_process(command, said.arguments)
        if ends and not self.terms.may_end:
            flow.events.append(Event(Action.TERMINATION_REFUSED, command))
            raw = changed(raw, command="disconnect", arguments=rules.detached(said.arguments))
        elif ends:
            flow.events.append(Event(Action.TERMINATED, command))
        elif why := self._objection(command, said.arguments):
            flow.events.append(Event(Action.REFUSED, command[:40]))
            self._refuse(said, why, flow)
            return
        elif noted := rules.event(command, said.arguments):
            flow.events.append(noted)
        if rules.sets_breakpoints(command):
            self._remember(command, bytes(said.arguments))
        if command == "configurationdone":
            self._set_again(flow)
        if command in ("configurationdone", "terminate") or command in _NAMES:
            self._open[said.seq] = said
        self.left = self.left or command in rules.ENDS
        flow.server.append(frame(plain(raw) if self.terms.read_only else raw))

    def _objection(self, command: str, given: msgspec.Raw) -> str:
        if not self.terms.read_only:
            return ""
        return rules.refusal(command, given, looks_only=self.terms.looks_only)

    def _refuse(self, said: Message, why: str, flow: Flow) -> None:
        shown = rules.shown(said.command.lower(), said.arguments)
        flow.client.append(_refusal(self._number(), said, Reason.READ_ONLY, why, shown=shown))

    # -- server to client ---------------------------------------------------------------------------

    def _server_says(self, data: bytes, flow: Flow) -> None:
        for raw in self._server.feed(self._pass_by(data, flow)):
            said = decode(raw)
            asked = self._open.get(said.request_seq) if said.type == "response" else None
            if asked:
                self._answered(asked, said)
                del self._open[said.request_seq]
            if asked and asked.seq in self._ours:
                self._shift -= 1
            else:
                self._deliver(said, raw, asked, flow)
            self.ready = self.ready or (self._configured and not self._gated())

    def _pass_by(self, data: bytes, flow: Flow) -> bytes:
        """Passes on at once, also parts of messages, while nothing is looked for or changed; returns the rest.

        A message that is under way when that changes is none that anybody waits for: it was there before.
        """
        nothing = self.ready and not (self._open or self._shift or self.terms.read_only)
        if not nothing and self._skimmer.between:
            return data
        data = self._server.take() + data
        try:
            length, ended = self._skimmer.skim(data, further=nothing)
        except ViolationError:
            flow.client.append(data)
            raise
        # Numbers go up by one, so that there is no need to look at each.
        self._last += ended
        flow.client.append(data[:length])
        return data[length:]

    def _deliver(self, said: Message, raw: bytes, asked: Message | None, flow: Flow) -> None:
        terminated = asked is not None and asked.command.lower() == "terminate"
        self._last = said.seq + self._shift
        if self._shift and said.type == "request":
            self._reverse[self._last] = said.seq
        if terminated and asked:
            raw = changed(raw, seq=self._last, command=asked.command)
        elif self._shift:
            raw = changed(raw, seq=self._last)
        # Apart, so that what is long is not copied once more.
        flow.client += (header(raw), raw)
        if terminated and not self.terms.may_end:
            # A client that has asked for the end waits to hear of it before it leaves.
            flow.client.append(message(seq=self._number(), type="event", event="terminated", body={}))

    def _number(self) -> int:
        """For a message of our own to the client."""
        self._shift += 1
        self._last += 1
        return self._last

    # -- the gate -----------------------------------------------------------------------------------

    def _gated(self) -> bool:
        return any(asked.command.lower() != "terminate" for asked in self._open.values())

    def _answered(self, asked: Message, answer: Message) -> None:
        command = asked.command.lower()
        if command == "configurationdone":
            self._configured = answer.success
        elif command != "terminate":
            wanted, got = set_breakpoints(asked.arguments), breakpoints(answer.body)
            answers = list(got.breakpoints or [])
            if not answer.success:
                answers = [None] * len(wanted.breakpoints or [])
            place = wanted.place or "?"
            self._unverified[place if wanted.source else command] = [
                (f"{place}:{point.line}" if point.line is not None else point.name or "?")
                + (f" ({found.message})" if found and found.message else "")
                for point, found in zip(wanted.breakpoints or [], answers, strict=False)
                if not (found and found.verified)
            ]

    def remarks(self) -> str:
        places = [place for found in self._unverified.values() for place in found]
        if not places:
            return ""
        more = f" and {len(places) - SHOWN} more" if len(places) > SHOWN else ""
        return f"breakpoints not verified: {', '.join(places[:SHOWN])}{more}"

    # -- breakpoints of a session that broke off ----------------------------------------------------

    @property
    def kept(self) -> Kept:
        return {} if self.left else {key: given for key, given in self._set.items() if set_breakpoints(given).any}

    def _remember(self, command: str, given: bytes) -> None:
        if command in _NAMES:
            self._set[command, set_breakpoints(given).place] = given

    def _set_again(self, flow: Flow) -> None:
        """What this client had set before its session broke off, as far as it has not said anything else meanwhile."""
        places = []
        for (command, place), given in self._before.items():
            raw = msgspec.Raw(given)
            if (command, place) in self._set or self._objection(command, raw):
                continue
            self._set[command, place] = given
            name = _NAMES[command]
            asked = Message(type="request", seq=OURS + len(self._ours), command=name, arguments=raw)
            self._ours.add(asked.seq)
            self._open[asked.seq] = asked
            flow.server.append(message(seq=asked.seq, type="request", command=name, arguments=asked.arguments))
            places.append(place or command)
        if places:
            flow.client.append(_output(self._number(), f"breakpoints set again: {', '.join(places)}"))

    # -- parting ------------------------------------------------------------------------------------

    def _held_back(self) -> tuple[bytes, bytes]:
        return self._client.unread(), self._server.unread()

    def last_words(self, words: str) -> bytes:
        if not self._skimmer.between:
            return b""  # nothing can be said in the middle of a message
        said = _output(self._number(), words)
        return said + message(seq=self._number(), type="event", event="terminated", body={})

    @classmethod
    def turned_away(cls, said: bytes, reason: Reason, words: str) -> bytes:
        try:
            for raw in Reader().feed(said):
                return _refusal(1, decode(raw), reason, words, shown=True)
        except ViolationError:
            return message(seq=1, type="event", event="terminated", body={})
        return b""


_NAMES = {
    "setbreakpoints": "setBreakpoints",
    "setfunctionbreakpoints": "setFunctionBreakpoints",
    "setexceptionbreakpoints": "setExceptionBreakpoints",
}


def _refusal(number: int, asked: Message, reason: Reason, words: str, *, shown: bool) -> bytes:
    error = {"id": REFUSAL, "format": f"squash: {words}", "showUser": shown}
    return message(
        seq=number,
        type="response",
        request_seq=asked.seq,
        success=False,
        command=asked.command,
        message=reason.value,
        body={"error": error},
    )


def _output(number: int, words: str) -> bytes:
    body = {"category": "important", "output": f"squash: {words}\n"}
    return message(seq=number, type="event", event="output", body=body)

"""What delve speaks: DAP or its own JSON-RPC, by the first byte that a client says, as delve itself decides it."""

from agent.protocols import dap_rules as rules
from agent.protocols.dap import Dap
from agent.protocols.dap_messages import Message, arguments, changed, decode
from agent.protocols.delve_rpc import CREATE, DelveRpc, ViolationError
from agent.protocols.interpreter import Event, Flow, Interpreter, Kept
from agent.terms import ORDINARY, Terms
from squash.dap import message
from squash.model import Action
from squash.reasons import Reason

_DAP = b"C"
"""Of `Content-Length`."""


class DelveDap(Dap):
    """The process is the one that delve sits in already, whatever a client says of modes, processes and programs.

    A client that leaves is answered here: how delve lets go of a process at work is the guard's to say.
    """

    _leaving: Message | None = None

    def _request(self, said: Message, raw: bytes, flow: Flow) -> None:
        command = said.command.lower()
        ends = rules.ends_process(command, said.arguments)
        if command in rules.ENDS and not (ends and self.terms.may_end):
            if ends:
                flow.events.append(Event(Action.TERMINATION_REFUSED, command))
            self._leaving = self._open[said.seq] = said
            self._leave(flow)
            return
        if command == "attach":
            given = {key: value for key, value in arguments(said.arguments).items() if key.lower() not in _WHOM}
            raw = changed(raw, arguments={**given, "request": "attach", "mode": "remote"})
            said = decode(raw)
        super()._request(said, raw, flow)

    def _server_says(self, data: bytes, flow: Flow) -> None:
        super()._server_says(data, flow)
        self._leave(flow)

    def _leave(self, flow: Flow) -> None:
        """As soon as a message that is under way to the client has come to its end."""
        if self._leaving is None or not self._skimmer.between:
            return
        answer = {"request_seq": self._leaving.seq, "success": True, "command": self._leaving.command}
        flow.client.append(message(seq=self._number(), type="response", **answer))
        flow.client.append(message(seq=self._number(), type="event", event="terminated", body={}))
        self.left = flow.over = True


_WHOM = frozenset({"mode", "request", "processid", "program", "waitfor", "backend", "followexec", "cwd"})


class Delve(Interpreter):
    """Hands everything to the interpreter of whichever protocol it turns out to be."""

    violation = ViolationError

    def __init__(self, terms: Terms = ORDINARY, kept: Kept | None = None) -> None:
        super().__init__(terms, kept)
        self._spoken: Interpreter | None = None

    def _client_says(self, data: bytes, flow: Flow) -> None:
        if self._spoken is None:
            kind = DelveDap if data[:1] == _DAP else DelveRpc
            # Breakpoints of a session in the other protocol are none that this one can set.
            rpc = kind is DelveRpc
            before = {key: given for key, given in self._before.items() if (key[0] == CREATE) is rpc}
            self._spoken = kind(self.terms, before)
        self._add(self._spoken, self._spoken.from_client(data), flow)

    def _server_says(self, data: bytes, flow: Flow) -> None:
        if self._spoken is None:
            flow.client.append(data)
        else:
            self._add(self._spoken, self._spoken.from_server(data), flow)

    def _add(self, spoken: Interpreter, part: Flow, flow: Flow) -> None:
        flow.server += part.server
        flow.client += part.client
        flow.events += part.events
        flow.over = part.over
        self.ready, self.left, self.lost = spoken.ready, spoken.left, spoken.lost

    @property
    def kept(self) -> Kept:
        # A client that never said a word has changed nothing.
        return self._spoken.kept if self._spoken else self._before

    def remarks(self) -> str:
        return self._spoken.remarks() if self._spoken else ""

    def _held_back(self) -> tuple[bytes, bytes]:
        return b"", b""  # what is held back is with the other one, which has given it out

    def last_words(self, words: str) -> bytes:
        return self._spoken.last_words(words) if self._spoken else b""

    @classmethod
    def turned_away(cls, said: bytes, reason: Reason, words: str) -> bytes:
        return (Dap if said[:1] == _DAP else DelveRpc).turned_away(said, reason, words)

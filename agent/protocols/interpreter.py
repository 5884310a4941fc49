"""What every interpreter does: stands between client and debug server, understands what they say, and has a say in it.

Pure: bytes of either side go in, in pieces of any size; bytes for either side come out, and events.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.terms import ORDINARY, Terms
from squash.model import Action
from squash.reasons import Reason

Kept = Mapping[tuple[str, str], bytes]
"""Breakpoints of a client that vanished, in a form that belongs to the interpreter."""


class Event(NamedTuple):
    """Something worth an entry in the audit trail. `detail` never has values of the process in it."""

    action: Action
    detail: str = ""


@dataclass
class Flow:
    """What comes of some bytes."""

    server: list[bytes] = field(default_factory=list)
    """For the debug server."""
    client: list[bytes] = field(default_factory=list)
    """For the client."""
    events: list[Event] = field(default_factory=list)
    over: bool = False
    """The connection must end here: what is said cannot be read, and the session may not do all there is."""


class Interpreter(ABC):
    """One session. When it cannot be followed it ends, unless nothing that it could say would be refused.

    A client that is cut off so has not taken its leave: it finds its breakpoints again when it comes back.
    """

    violation: type[Exception]
    """What is raised for bytes that are not of the protocol."""

    def __init__(self, terms: Terms = ORDINARY, kept: Kept | None = None) -> None:
        """`kept`: breakpoints of the same client's last session, which broke off."""
        self.terms = terms
        self.ready = False
        """The ready gate: a client is there, and its breakpoints are set."""
        self.left = False
        """Whether the client has taken its leave in good order."""
        self.lost = ""
        """Why the bytes can no longer be followed."""
        self.stirred = 0
        """Grows with each thing that a client may do more of at once, and that no word ends: see `calm`."""
        self._before = kept or {}

    def from_client(self, data: bytes) -> Flow:
        flow = Flow()
        if not self.lost:
            self._try(self._client_says, data, flow)
        elif self.terms.may_end:
            flow.server.append(data)
        else:
            flow.over = True
        return flow

    def from_server(self, data: bytes) -> Flow:
        flow = Flow()
        if not self.lost:
            self._try(self._server_says, data, flow)
        elif self.terms.may_end:
            flow.client.append(data)
        else:
            flow.over = True
        return flow

    def _try(self, understand: Callable[[bytes, Flow], None], data: bytes, flow: Flow) -> None:
        try:
            understand(data, flow)
        except self.violation as error:
            self.lost = str(error)
            if not self.terms.may_end:
                flow.events.append(Event(Action.UNFOLLOWED, "the session was ended"))
                flow.client.append(self.last_words("what is said is not of the protocol, so this session ends here"))
                flow.over = True
                return
            flow.events.append(Event(Action.UNFOLLOWED, "it goes on, unread"))
            for_server, for_client = self._held_back()
            flow.server.append(for_server)
            flow.client.append(for_client)

    @abstractmethod
    def _client_says(self, data: bytes, flow: Flow) -> None:
        """Raises `violation`; what it raises for must then be among what `_held_back` gives."""

    @abstractmethod
    def _server_says(self, data: bytes, flow: Flow) -> None:
        """As `_client_says`."""

    @abstractmethod
    def _held_back(self) -> tuple[bytes, bytes]:
        """What came and was not passed on: for the server, for the client."""

    def calm(self) -> bool:
        """To be called when `stirred` has not grown for a while; False: to be called again after the same time."""
        return True

    @property
    def kept(self) -> Kept:
        """Breakpoints that a next session of the same client should find."""
        return {}

    def remarks(self) -> str:
        """What a developer should know, like breakpoints that could not be set; mostly empty."""
        return ""

    @abstractmethod
    def last_words(self, words: str) -> bytes:
        """To a client whose session ends here and now."""

    @classmethod
    @abstractmethod
    def turned_away(cls, said: bytes, reason: Reason, words: str) -> bytes:
        """The answer to the first that a client says, when it cannot come in; empty while that is incomplete."""

"""Which attachments a list or a watch is about."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from coordinator.board import Board
from coordinator.waiting import ANY, Entry, Key
from squash.model import DebugAttachment, State


@dataclass(frozen=True)
class Selection:
    """An attachment belongs when each filter that is not empty has its value."""

    nodes: frozenset[str] = frozenset()
    holder: str | None = None
    states: frozenset[State] = frozenset()
    names: frozenset[str] = frozenset()
    creator: str | None = None
    """Of a filter, which sees what it created itself."""

    def of(self, board: Board) -> Iterator[DebugAttachment]:
        """Everything on the board that belongs, oldest first as far as one node or holder goes."""
        return (attachment for attachment in self._candidates(board) if self.has(attachment))

    def has(self, attachment: DebugAttachment) -> bool:
        spec = attachment.spec
        return (
            (not self.states or attachment.status.state in self.states)
            and (not self.names or attachment.name in self.names)
            and (not self.nodes or spec.node in self.nodes)
            and (not self.holder or spec.holder == self.holder)
            and (self.creator is None or spec.creator == self.creator)
        )

    def has_place(self, entry: Entry) -> bool:
        """Whether a change happened where this is about: to its names, at its nodes, to its holder."""
        return (
            (not self.names or entry.name in self.names)
            and (not self.nodes or entry.node in self.nodes)
            and (not self.holder or entry.holder == self.holder)
        )

    @property
    def keys(self) -> frozenset[Key]:
        """What to wait for: as few changes of others as possible."""
        if self.names:
            return frozenset(("attachment", name) for name in self.names)
        if self.holder:
            return frozenset({("holder", self.holder)})
        return frozenset(("node", node) for node in self.nodes) or frozenset({ANY})

    @property
    def whatever_state(self) -> "Selection":
        """The same without the filter of states."""
        return replace(self, states=frozenset())

    def _candidates(self, board: Board) -> Iterator[DebugAttachment]:
        if self.names:
            found = (board.attachments.get(name) for name in self.names)
            return (attachment for attachment in found if attachment)
        if self.holder:
            return board.of_holder(self.holder)
        if self.nodes:
            return (attachment for node in self.nodes for attachment in board.of_node(node))
        return iter(board.attachments.values())

"""What GET /changes answers: the news since a revision, or everything when nobody can tell any more."""

from coordinator.board import Board
from coordinator.selection import Selection
from coordinator.waiting import Waiting
from squash.model import Changes, DebugAttachment


def everything(board: Board, waiting: Waiting, chosen: Selection) -> Changes:
    """All attachments of the place, also those in other states: what is not among them is gone."""
    attachments = list(chosen.whatever_state.of(board))
    return Changes(revision=waiting.revision, reset=True, attachments=attachments)


def news(board: Board, waiting: Waiting, chosen: Selection, count: int) -> Changes | None:
    """What changed after `count` (see `Waiting.count_of`), as it is now; None when nothing did."""
    # One who waits may be overtaken too, when very much happens at once.
    if not waiting.remembers(count):
        return everything(board, waiting, chosen)
    attachments: dict[str, DebugAttachment] = {}
    deleted: dict[str, None] = {}
    for entry in waiting.since(count):
        if not chosen.has_place(entry):
            continue
        if entry.gone:
            deleted[entry.name] = None
        elif (attachment := board.attachments.get(entry.name)) and chosen.has(attachment):
            attachments[entry.name] = attachment
    if not attachments and not deleted:
        return None
    # The log was read from its end.
    oldest_first = list(attachments.values())[::-1]
    return Changes(revision=waiting.revision, attachments=oldest_first, deleted=list(deleted)[::-1])

"""What an event wants to change: decided by the board, kept by the store, then applied and told to those who wait."""

from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from squash.model import DebugAttachment, DebugRequest

T = TypeVar("T")


class AttachmentChange(NamedTuple):
    """One debug attachment before and after; None where there was or will be none."""

    name: str
    before: DebugAttachment | None
    after: DebugAttachment | None


class RequestChange(NamedTuple):
    """One debug request before and after; None where there was or will be none."""

    name: str
    before: DebugRequest | None
    after: DebugRequest | None


Change = AttachmentChange | RequestChange


@dataclass(frozen=True)
class Decision(Generic[T]):
    """All of `changes` happen, or none; then `result` is the answer."""

    changes: tuple[Change, ...]
    result: T

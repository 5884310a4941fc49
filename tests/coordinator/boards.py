"""Boards of the coordinator, and what is done on them in a line."""

from itertools import count
from typing import Any

import pytest

from coordinator.board import Board, Policy
from coordinator.decision import Decision
from squash.errors import ApiError
from squash.model import (
    AttachmentPatch,
    AttachmentSpec,
    DebugAttachment,
    DebugRequest,
    Metadata,
    RequestSpec,
    StatusPatch,
)
from squash.reasons import Reason

POLICY = Policy(request_ttl=100, retention=50)


def board() -> Board:
    numbers = count(1)
    return Board(POLICY, lambda: f"made-{next(numbers)}")


def do(on: Board, decision: Decision[Any]) -> Any:
    on.apply(decision.changes)
    return decision.result


def wish(on: Board, image: str = "i", debugger: str = "", now: float = 0.0, **spec: Any) -> DebugRequest:
    wanted = DebugRequest(spec=RequestSpec(image=image, debugger=debugger, **spec))
    result: DebugRequest = do(on, on.create_request(wanted, now))
    return result


def marked(on: Board, image: str = "i", now: float = 0.0, name: str | None = None, **spec: Any) -> DebugAttachment:
    spec = dict[str, Any](match_request=True, attachment={"pod": "p"}) | spec
    wanted = DebugAttachment(metadata=Metadata(name=name), spec=AttachmentSpec(image=image, **spec))
    result: DebugAttachment = do(on, on.create_attachment(wanted, now))
    return result


def patch(on: Board, name: str, now: float = 0.0, **status: Any) -> DebugAttachment:
    result: DebugAttachment = do(on, on.patch_attachment(name, AttachmentPatch(status=StatusPatch(**status)), now))
    return result


def refusal(reason: Reason, code: int) -> Any:
    return pytest.raises(ApiError, check=lambda error: (error.code, error.reason) == (code, reason))

"""What waits to be told to the audit trail."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from agent import audit
from agent.audit import BYTES, Audit, Pending
from squash.calls import Call
from squash.client import AsyncClient
from squash.errors import ApiError
from squash.model import LONGEST_TEXT, Action, AuditEntry
from squash.reasons import Reason
from squash.tasks import spawn


def entry(action: Action = Action.EVALUATED, time: float = 1.0, detail: str | None = None) -> AuditEntry:
    return AuditEntry(time=time, actor="ann@desk", action=action, detail=detail)


def test_what_repeats_itself_is_counted() -> None:
    pending = Pending()
    for time in (1.0, 2.0, 3.0):
        pending.add(entry(time=time, detail="watch"))
    pending.add(entry(Action.CHANGED))
    pending.add(entry(time=4.0))
    assert pending.take(9) == [entry(detail="watch, 3 times"), entry(Action.CHANGED), entry(time=4.0)]
    assert not pending


def test_they_are_taken_in_order_and_a_few_at_a_time() -> None:
    pending = Pending()
    every = [entry(detail=str(number)) for number in range(5)]
    for each in every:
        pending.add(each)
    assert pending.take(2) == every[:2]
    pending.put_back(every[:2])
    assert pending.take(9) == every


def test_the_oldest_are_given_up_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LONGEST", 3)
    pending = Pending()
    every = [entry(detail=str(number)) for number in range(5)]
    for each in every[1:]:
        pending.add(each)
    assert pending.given_up == 1
    batch = pending.take(1)
    pending.add(every[0])
    pending.put_back(batch)
    assert pending.given_up == 2
    assert pending.take(9) == [every[3], every[4], every[0]]


def test_a_batch_is_no_longer_than_what_is_taken() -> None:
    pending = Pending()
    for number in range(400):
        pending.add(entry(detail=f"{number:3}" + "\x01" * (LONGEST_TEXT - 3)))
    sizes = []
    while batch := pending.take(200):
        sizes.append(len(json.dumps([each.detail for each in batch])))
    assert len(sizes) > 2
    assert max(sizes) < BYTES


class Picky(AsyncClient):
    """A coordinator that says about each batch what it thinks of it."""

    def __init__(self, opinion: Callable[[list[str]], int]) -> None:
        super().__init__("http://127.0.0.1:9")
        self._opinion = opinion
        self.taken: list[str] = []

    async def send(self, call: Call[Any], timeout: float | None = None) -> Any:
        details = [each["detail"] for each in json.loads(call.body or b"")]
        if code := self._opinion(details):
            raise ApiError(code, Reason.INVALID, "no")
        self.taken += details


async def told(client: Picky, count: int) -> list[str]:
    async with client:
        trail = Audit(client)
        running = spawn(trail.run(), "audit")
        await asyncio.sleep(0)
        for number in range(count):
            trail.tell(entry(detail=str(number)))
        trail.close()
        await asyncio.wait_for(running, 60)
    return client.taken


@pytest.mark.parametrize("code", [400, 403, 413, 422])
async def test_only_the_entry_that_is_refused_is_lost(code: int) -> None:
    client = Picky(lambda details: code if "17" in details else 0)
    assert await told(client, 300) == [str(number) for number in range(300) if number != 17]


@pytest.mark.parametrize("code", [401, 429, 503])
async def test_a_refusal_that_passes_loses_nothing(code: int) -> None:
    answers = iter([code, code])
    client = Picky(lambda _: next(answers, 0))
    assert await told(client, 3) == ["0", "1", "2"]

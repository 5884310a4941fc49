"""What waits to be told to the audit trail."""

from agent.audit import Pending
from squash.model import Action, AuditEntry


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


def test_the_oldest_are_given_up_where_there_is_no_room() -> None:
    pending = Pending(longest=3)
    every = [entry(detail=str(number)) for number in range(5)]
    for each in every[1:]:
        pending.add(each)
    assert pending.given_up == 1
    batch = pending.take(1)
    pending.add(every[0])
    pending.put_back(batch)
    assert pending.given_up == 2
    assert pending.take(9) == [every[3], every[4], every[0]]

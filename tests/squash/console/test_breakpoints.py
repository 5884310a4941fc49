"""Breakpoints: what was asked, and what the debug server makes of it."""

from squash.cli.console.breakpoints import FUNCTIONS, Breakpoints
from squash.cli.console.messages import Answered
from squash.cli.console.places import Place, Wanted

A = Wanted(Place("/a.py", 3))


def test_arguments_are_what_is_enabled_of_a_file() -> None:
    points = Breakpoints()
    points.add(A)
    points.add(Wanted(Place("/a.py", 9), condition="n", hits="> 2"))
    points.add(Wanted(Place("/b.py", 1), log="x"))
    points.add(Wanted(Place(function="total")))
    off = points.add(Wanted(Place("/a.py", 12)))
    points.change(off.number, enabled=False)
    assert points.arguments("/a.py") == [{"line": 3}, {"line": 9, "condition": "n", "hitCondition": "> 2"}]
    assert points.arguments("/b.py") == [{"line": 1, "logMessage": "x"}]
    assert points.arguments(FUNCTIONS) == [{"name": "total"}]
    assert points.paths() == {"/a.py", "/b.py", FUNCTIONS}
    assert [each.number for each in points] == [1, 2, 3, 4, 5]


def test_numbers_are_never_given_twice() -> None:
    points = Breakpoints()
    points.remove(points.add(A).number)
    assert points.add(A).number == 2
    assert len(points) == 1


def test_answers_are_by_order_and_may_be_too_few() -> None:
    points = Breakpoints()
    first, second = points.add(A), points.add(A)
    points.answered([first, second], [Answered(id=7, verified=True, line=4)])
    one, two = points.get(1), points.get(2)
    assert one
    assert two
    assert (one.verified, one.line, one.server_id) == (True, 4, 7)
    assert two.verified is False


def test_an_answer_for_one_that_is_gone_is_nothing() -> None:
    points = Breakpoints()
    made = points.add(A)
    points.remove(made.number)
    points.answered([made], [Answered(verified=True)])
    assert len(points) == 0


def test_later_news_are_by_id() -> None:
    points = Breakpoints()
    made = points.add(A)
    points.answered([made], [Answered(id=7, message="not yet")])
    assert points.told(Answered(id=8, verified=True)) is None
    assert points.told(Answered(verified=True)) is None
    told = points.told(Answered(id=7, verified=True))
    assert told
    assert (told.verified, told.message) == (True, "")


def test_hits_by_id_or_place() -> None:
    points = Breakpoints()
    made, log = points.add(A), points.add(Wanted(Place("/a.py", 3), log="x"))
    points.answered([made, log], [Answered(id=7, line=4), Answered(id=8)])
    assert [each.number for each in points.hit([7], "/elsewhere", 1)] == [1]
    assert [each.count for each in points.hit([], "/a.py", 4)] == [2]
    assert [each.count for each in points.hit([99], "/a.py", 3)] == [3]
    assert points.hit([], "", 3) == []
    assert points.at("/a.py").keys() == {3, 4}

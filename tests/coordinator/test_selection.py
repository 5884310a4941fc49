"""Which attachments a list is about, and what it waits for."""

import pytest

from coordinator.board import Board, Policy
from coordinator.selection import Selection
from coordinator.waiting import ANY, Entry, Key
from squash.model import AttachmentSpec, DebugAttachment, Metadata, State


@pytest.fixture
def board() -> Board:
    board = Board(Policy(1, 1), str)
    for name, node, holder in (("a", "1", "x"), ("b", "1", "y"), ("c", "2", "x"), ("d", "2", None)):
        spec = AttachmentSpec(attachment={}, node=node, holder=holder)
        board.apply(board.create_attachment(DebugAttachment(metadata=Metadata(name=name), spec=spec), 0).changes)
    board.apply(board.release_attachment("b", 0).changes)
    return board


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (Selection(), "abcd"),
        (Selection(nodes=frozenset({"1"})), "ab"),
        (Selection(nodes=frozenset({"1", "2", "3"})), "abcd"),
        (Selection(holder="x"), "ac"),
        (Selection(holder="x", nodes=frozenset({"2"})), "c"),
        (Selection(names=frozenset({"a", "d", "gone"})), "ad"),
        (Selection(names=frozenset({"a", "d"}), nodes=frozenset({"2"})), "d"),
        (Selection(states=frozenset({State.ERROR})), "b"),
        (Selection(states=frozenset({State.ERROR})).whatever_state, "abcd"),
        (Selection(states=frozenset({State.NONE}), nodes=frozenset({"1"})), "a"),
    ],
)
def test_belongs(board: Board, chosen: Selection, names: str) -> None:
    assert sorted(one.name for one in chosen.of(board)) == list(names)


@pytest.mark.parametrize(
    ("chosen", "keys"),
    [
        (Selection(), {ANY}),
        (Selection(states=frozenset({State.NONE})), {ANY}),
        (Selection(nodes=frozenset({"1", "2"})), {("node", "1"), ("node", "2")}),
        (Selection(holder="x", nodes=frozenset({"1"})), {("holder", "x")}),
        (Selection(names=frozenset({"a"}), holder="x"), {("attachment", "a")}),
    ],
)
def test_waits_for_as_little_as_possible(chosen: Selection, keys: set[Key]) -> None:
    assert chosen.keys == keys


@pytest.mark.parametrize(
    ("chosen", "concerned"),
    [
        (Selection(), True),
        (Selection(names=frozenset({"a"})), True),
        (Selection(names=frozenset({"b"})), False),
        (Selection(nodes=frozenset({"1"}), holder="x"), True),
        (Selection(nodes=frozenset({"2"})), False),
        (Selection(holder="y"), False),
    ],
)
def test_a_change_is_news_for_whom_it_concerns(chosen: Selection, *, concerned: bool) -> None:
    assert chosen.has_place(Entry(7, "a", "1", "x", gone=True)) is concerned

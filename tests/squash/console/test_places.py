"""Where breakpoints are to stand, as people type it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.cli.console.places import Place, PlaceError, Wanted, parse_break, parse_log, parse_place, resolve


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("12", Wanted(Place(line=12))),
        ("app.py:12", Wanted(Place("app.py", 12))),
        ("/a b/app.py:12".replace(" ", "_"), Wanted(Place("/a_b/app.py", 12))),
        ('"/a b/app.py":12', Wanted(Place("/a b/app.py", 12))),
        ("c:/x.py:1", Wanted(Place("c:/x.py", 1))),
        ("total", Wanted(Place(function="total"))),
        ("shop.Order.total", Wanted(Place(function="shop.Order.total"))),
        ("shop::total", Wanted(Place(function="shop::total"))),
        ("12 if n > 3", Wanted(Place(line=12), condition="n > 3")),
        ("12, n > 3", Wanted(Place(line=12), condition="n > 3")),
        ("a.py:12 if x, y", Wanted(Place("a.py", 12), condition="x, y")),
        ("a.py:12 if a if b else c", Wanted(Place("a.py", 12), condition="a if b else c")),
        ("12 hits 3", Wanted(Place(line=12), hits="3")),
        ("12 hits >= 3 if n", Wanted(Place(line=12), hits=">= 3", condition="n")),
        ("  12 hits % 2  ", Wanted(Place(line=12), hits="% 2")),
    ],
)
def test_breakpoints(text: str, wanted: Wanted) -> None:
    assert parse_break(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "0", "a.py:0", "a.py:", "a.py", "-3", "12 n > 3", "12 if", "12 hits", "12 hits many", "9" * 30, "a b"]
)
def test_what_is_no_place_is_said(text: str) -> None:
    with pytest.raises(PlaceError):
        parse_break(text)


def test_messages() -> None:
    assert parse_log("a.py:3 total is {total}") == Wanted(Place("a.py", 3), log="total is {total}")
    with pytest.raises(PlaceError, match="a place and a message"):
        parse_log("a.py:3")


@given(st.text())
def test_any_text_is_a_place_or_none(text: str) -> None:
    for parse in (parse_break, parse_log, parse_place):
        with contextlib.suppress(PlaceError):
            parse(text)


KNOWN = ["/shop/app.py", "/shop/lib/util.py", "/other/util.py", "/other/deep/app2.py"]


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("app.py", "/shop/app.py"),
        ("./app.py", "/shop/app.py"),
        ("lib/util.py", "/shop/lib/util.py"),
        ("/not/known.py", "/not/known.py"),
        ("<string>", "<string>"),
        ("mine.py", "/home/me/mine.py"),
        ("other/util.py", "/other/util.py"),
    ],
)
def test_files(typed: str, path: str) -> None:
    assert resolve(typed, KNOWN, {"mine.py": "/home/me/mine.py", "app.py": "/home/me/app.py"}.get) == path


def test_a_file_of_this_machine_decides_between_several() -> None:
    assert resolve("util.py", KNOWN, lambda _: "/other/util.py") == "/other/util.py"


@pytest.mark.parametrize(("typed", "says"), [("util.py", "may be any of /other/util.py, /shop"), ("pp.py", "no file")])
def test_files_that_cannot_be_told(typed: str, says: str) -> None:
    with pytest.raises(PlaceError, match=says):
        resolve(typed, KNOWN, lambda _: None)


def test_many_files_are_not_all_named() -> None:
    with pytest.raises(PlaceError, match="and 3 more"):
        resolve("x.py", [f"/{n}/x.py" for n in range(8)], lambda _: None)

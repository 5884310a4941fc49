"""How things look: whatever a process holds, a terminal gets nothing but text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.cli.console import render
from squash.cli.console.debuggee import Debuggee
from squash.cli.console.messages import Frame, Source, Stopped
from squash.cli.console.source import function_around, lines, parameters


@given(st.text(alphabet=st.characters()))
def test_nothing_reaches_the_terminal_but_text(text: str) -> None:
    shown = render.plain(text)
    assert all(each.isprintable() or each in "\n\t" for each in shown)
    shown.encode()
    assert len(render.one_line(text, 20)) <= 20
    assert "\n" not in render.one_line(text)


@pytest.mark.parametrize(
    ("text", "shown"), [("a\x1b[2J", r"a\x1b[2J"), ("\u202eabc", r"\u202eabc"), ("\udc80", r"\udc80"), ("é☃😀", "é☃😀")]
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    assert render.plain(text) == shown


def test_values() -> None:
    assert render.value("a\nb", whole=False) == ["a", "b"]
    cut = render.value("x" * 5_000, whole=False)
    assert cut == ["x" * 1_000, "… and 4000 more characters; `full EXPRESSION` shows all"]
    assert render.value("x" * 5_000, whole=True) == ["x" * 5_000]


def test_refusals_are_the_last_line_of_a_traceback() -> None:
    assert render.refusal("Traceback (most recent call last):\n  x\nNameError: n\n") == "NameError: n"
    assert render.refusal("one\ntwo") == "one\ntwo"
    assert render.refusal("") == ""


def test_where_marks_the_frame_and_says_what_is_left_out() -> None:
    debuggee = Debuggee()
    debuggee.connected()
    debuggee.configured()
    assert debuggee.stopped(Stopped(thread_id=1))
    frames = [Frame(id=n, name=f"f{n}", line=n, source=Source(path="/a.py")) for n in range(1, 4)]
    debuggee.stack(frames, 9)
    debuggee.move(1)
    assert render.where(debuggee, {0: "x = 1"}) == [
        "  … 6 older frames",
        "  #2   /a.py(3)f3()",
        "> #1   /a.py(2)f2()",
        "  #0   /a.py(1)f1()",
        "       -> x = 1",
    ]


PYTHON = lines("""import x

@x.y
def outer(a, *rest, b=1, **more):
    def inner(c):
        return c
    return inner(a)

z = 1
""")
C = lines("""#include <x>

int total(int a)
{
    return a;
}

int main() {
    return total(1);
}
""")


@pytest.mark.parametrize(("line", "around"), [(6, (5, 6)), (7, (3, 7)), (3, (3, 7)), (9, (1, 9))])
def test_functions_of_python(line: int, around: tuple[int, int]) -> None:
    assert function_around(PYTHON, line, "/a.py") == around


@pytest.mark.parametrize(("line", "around"), [(5, (3, 6)), (9, (8, 10)), (3, (3, 6))])
def test_functions_of_c(line: int, around: tuple[int, int]) -> None:
    assert function_around(C, line, "/a.c") == around


def test_parameters() -> None:
    assert parameters(PYTHON, 7, "/a.py") == ["a", "rest", "b", "more"]
    assert parameters(PYTHON, 6, "/a.py") == ["c"]
    assert parameters(PYTHON, 9, "/a.py") is None
    assert parameters(C, 5, "/a.c") is None
    assert parameters(["def ("], 1, "/a.py") is None

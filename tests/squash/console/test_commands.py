"""What is typed: commands, their short names, and what is code all the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squash.cli.console.app import HANDLERS
from squash.cli.console.commands import COMMANDS, SECTIONS, help_lines, parse

ALL = [command for section in SECTIONS.values() for command in section]


def test_each_command_is_done_by_something_and_nothing_else_is() -> None:
    assert {command.name for command in ALL} == set(HANDLERS)


def test_no_name_means_two_commands() -> None:
    names = [name for command in ALL for name in command.names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_name_is_its_command_with_and_without_an_argument(name: str) -> None:
    for line, argument in ((name, ""), (f"  {name}  ", ""), (f"{name} some thing", "some thing")):
        parsed = parse(line)
        assert parsed
        assert (parsed.command, parsed.argument) == (COMMANDS[name], argument)


@pytest.mark.parametrize("name", sorted(name for name in COMMANDS if name.isidentifier()))
@pytest.mark.parametrize("rest", ["(x)", ".total", " = 1", " += 1", " //= 2", "[0]", " >>= 1", "x"])
def test_a_variable_that_is_named_like_a_command_is_code(name: str, rest: str) -> None:
    if name + rest in COMMANDS:
        return
    parsed = parse(name + rest)
    assert parsed
    assert (parsed.command, parsed.argument) == (None, name + rest)


@pytest.mark.parametrize("line", ["p == 1", "p =", "x if y else z", "1 + 1", "print(x)", "[c for c in d]", "cc"])
def test_what_is_no_command_is_code(line: str) -> None:
    parsed = parse(line)
    assert parsed
    assert (parsed.command is None) == (line != "p == 1")


@pytest.mark.parametrize(
    ("line", "name", "argument"),
    [("!n = 1", "!", "n = 1"), ("! c", "!", "c"), ("?break", "help", "break"), ("?", "help", "")],
)
def test_signs(line: str, name: str, argument: str) -> None:
    parsed = parse(line)
    assert parsed
    assert parsed.command is COMMANDS[name]
    assert parsed.argument == argument


@given(st.text())
def test_any_text_is_an_empty_line_a_command_or_code(text: str) -> None:
    parsed = parse(text)
    assert (parsed is None) == (not text.strip())
    if parsed and parsed.command is None:
        assert parsed.argument == text.strip()


def test_help_tells_of_all() -> None:
    text = "\n".join(help_lines())
    for command in ALL:
        assert command.help in text
        assert command.help in "\n".join(help_lines(command.names[-1]))
    with pytest.raises(KeyError):
        help_lines("nothing")

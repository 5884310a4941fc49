"""What can be typed: one table for parsing, help, completion and documentation. Pure."""

import re
from dataclasses import dataclass
from enum import StrEnum


class Takes(StrEnum):
    """What a command's argument is, so that it can be completed."""

    NOTHING = "nothing"
    EXPRESSION = "expression"
    PLACE = "place"
    TEXT = "text"


@dataclass(frozen=True)
class Command:
    names: tuple[str, ...]
    """The first is its own, the others are short for it."""
    usage: str
    """What stands after the name; optional parts in brackets."""
    help: str
    takes: Takes = Takes.TEXT

    @property
    def name(self) -> str:
        return self.names[0]


@dataclass(frozen=True)
class Parsed:
    """A line as typed: a command with its argument, or (`command` is None) code to be evaluated."""

    command: Command | None
    argument: str


STATEMENT = "!"
_NOTHING, _EXPRESSION, _PLACE = Takes.NOTHING, Takes.EXPRESSION, Takes.PLACE
SECTIONS: dict[str, tuple[Command, ...]] = {
    "let it run": (
        Command(
            ("continue", "c", "cont"),
            "",
            "Run on to the next stop. The first time it also says that you are ready: a held request goes on.",
            _NOTHING,
        ),
        Command(("ready",), "", "Your breakpoints are set: a held request goes on. As the first `continue`.", _NOTHING),
        Command(("next", "n"), "", "Run to the next line of this function, over calls.", _NOTHING),
        Command(("step", "s"), "", "Run to the next line, into calls.", _NOTHING),
        Command(("return", "r", "finish"), "", "Run until this function has returned.", _NOTHING),
        Command(("until", "unt"), "[LINE]", "Run until a line further down, or line LINE of this file.", _PLACE),
        Command(("jump", "j"), "LINE", "Go on at another line of this function, leaving out what is between.", _PLACE),
        Command(("pause",), "", "Stop the process where it is.", _NOTHING),
    ),
    "breakpoints": (
        Command(
            ("break", "b"),
            "[WHERE [hits N] [if CONDITION]]",
            "Set a breakpoint at FILE:LINE, LINE of this file, or FUNCTION; alone it lists them. "
            "`hits 3` stops at the third time only; `hits >= 3` and `hits % 3` do too.",
            _PLACE,
        ),
        Command(("tbreak",), "WHERE [if CONDITION]", "Set a breakpoint that is gone after its first stop.", _PLACE),
        Command(
            ("trace", "log"),
            "WHERE MESSAGE",
            "Write a message each time instead of stopping; expressions stand in braces, like {total}.",
            _PLACE,
        ),
        Command(("clear", "cl", "delete"), "[N …|WHERE]", "Remove breakpoints; alone all of them."),
        Command(("disable",), "[N …]", "Keep breakpoints, but do not stop there."),
        Command(("enable",), "[N …]", "Stop there again."),
        Command(("condition",), "N [CONDITION]", "Give breakpoint N a condition, or take it away."),
        Command(("ignore",), "N [COUNT]", "Pass breakpoint N COUNT times before it stops; alone no more."),
        Command(
            ("exceptions", "catch"),
            "[KIND …|off]",
            "Stop at exceptions: `raised`, `uncaught` and what else the debugger offers; alone it lists them.",
        ),
    ),
    "look": (
        Command(("list", "l"), "[.|LINE|FIRST,LAST|FILE:LINE]", "Show source: around this line, then on.", _PLACE),
        Command(("longlist", "ll"), "", "Show the source of this function.", _NOTHING),
        Command(("print", "p"), "EXPRESSION", "Show a value.", _EXPRESSION),
        Command(("pp",), "EXPRESSION", "Show a value with what is in it, a line each.", _EXPRESSION),
        Command(("full", "pf"), "EXPRESSION", "Show a value whole, however long it is.", _EXPRESSION),
        Command(("whatis",), "EXPRESSION", "Show the type of a value.", _EXPRESSION),
        Command(("args", "a"), "", "Show the arguments of this function.", _NOTHING),
        Command(("locals",), "", "Show the variables of this function.", _NOTHING),
        Command(("watch", "display"), "[EXPRESSION]", "Show a value at each stop; alone it shows all.", _EXPRESSION),
        Command(("unwatch", "undisplay"), "[N|EXPRESSION]", "Do so no more; alone for all of them."),
    ),
    "change": (
        Command(("set",), "NAME = VALUE", "Change a variable.", _EXPRESSION),
        Command((STATEMENT,), "STATEMENT", "Run a statement, also one that looks like a command.", _EXPRESSION),
    ),
    "frames and threads": (
        Command(("where", "w", "bt"), "[COUNT]", "Show how it came here, the newest frame last."),
        Command(("up", "u"), "[COUNT]", "Go to the frame that called this one."),
        Command(("down", "d"), "[COUNT]", "Go to the frame that this one called."),
        Command(("frame", "f"), "[N]", "Go to a frame by its number in `where`."),
        Command(("threads",), "", "Show the threads.", _NOTHING),
        Command(("thread",), "[N]", "Go to another thread."),
    ),
    "the session": (
        Command(("status",), "", "Show what is debugged, and whether it runs.", _NOTHING),
        Command(("quit", "q", "exit", "detach"), "", "Leave; the process runs on without a debugger.", _NOTHING),
        Command(("kill",), "", "End the process, where the debug attachment allows it.", _NOTHING),
        Command(("help", "h", "?"), "[COMMAND]", "Show this, or more on one command."),
    ),
}
COMMANDS = {name: command for section in SECTIONS.values() for command in section for name in command.names}

_WORD = re.compile(r"(\w+)(?:\s+(.*))?", re.DOTALL)
_ASSIGNS = re.compile(r"(?:[-+*/%@&|^]|//|\*\*|<<|>>|:)?=(?!=)")
"""What follows a name where that is a variable and no command, as in `c = 1`."""


def parse(line: str) -> Parsed | None:
    """None for an empty line. What is no command is code, as in pdb; unlike there, so are `next(x)` and `c = 1`."""
    text = line.strip()
    if not text:
        return None
    for sign in (STATEMENT, "?"):
        if text.startswith(sign):
            return Parsed(COMMANDS[sign], text[1:].strip())
    found = _WORD.fullmatch(text)
    rest = (found[2] or "").strip() if found else ""
    command = COMMANDS.get(found[1]) if found else None
    if command is None or _ASSIGNS.match(rest):
        return Parsed(None, text)
    return Parsed(command, rest)


def help_lines(name: str = "") -> list[str]:
    """The whole table, or one command. Raises KeyError for what is no command."""
    if name:
        command = COMMANDS[name]
        also = f"also: {', '.join(command.names[1:])}" if command.names[1:] else ""
        return [line for line in (f"{command.name} {command.usage}".rstrip(), f"    {command.help}", also) if line]
    lines = []
    for title, commands in SECTIONS.items():
        lines.append(f"{title}:")
        for command in commands:
            short = f" ({', '.join(command.names[1:])})" if command.names[1:] else ""
            lines.append(f"  {f'{command.name} {command.usage}'.rstrip()}{short}")
            lines.append(f"      {command.help}")
    return [*lines, "An empty line repeats the last command. What is no command is evaluated; `!` makes sure of it."]

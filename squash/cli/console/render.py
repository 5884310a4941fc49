"""How things look: lines of text, without anything that a terminal would take for an order. Pure."""

from collections.abc import Iterable

from squash.cli.console.breakpoints import Breakpoint
from squash.cli.console.debuggee import Debuggee
from squash.cli.console.messages import Frame, Stopped, Variable

LONGEST_VALUE = 1_000
"""Characters of a value that are shown when the whole was not asked for."""
LONGEST_ITEM = 120
"""Characters of a value that is shown among others."""
AROUND = 5
"""Lines of source before and after the current one, as in pdb."""


def plain(text: str) -> str:
    """The text with control characters and what cannot be encoded written out; tabs and line ends stay.

    What a process holds may be an attacker's: it must not move the cursor, or tell the terminal anything.
    """
    return "".join(each if each in "\n\t" or each.isprintable() else _written_out(each) for each in text)


def one_line(text: str, longest: int = LONGEST_ITEM) -> str:
    """Cut, and on one line."""
    flat = plain(" ".join(text.split("\n")))
    return flat if len(flat) <= longest else f"{flat[: longest - 1]}…"


def value(text: str, whole: bool) -> list[str]:
    """A value's lines; a long one is cut, and says how to see the rest."""
    if whole or len(text) <= LONGEST_VALUE:
        return plain(text).split("\n")
    left = len(text) - LONGEST_VALUE
    return [*plain(text[:LONGEST_VALUE]).split("\n"), f"… and {left} more characters; `full EXPRESSION` shows all"]


def refusal(text: str) -> str:
    """A debug server's words; of a traceback the last line, as in pdb."""
    lines = text.strip().split("\n")
    return plain(lines[-1] if lines[0].startswith("Traceback (most recent call last)") else "\n".join(lines))


def headline(debuggee: Debuggee, stop: Stopped, hit: Iterable[Breakpoint]) -> str:
    """Why it stands, and which thread."""
    numbers = ", ".join(str(each.number) for each in hit)
    why = f"breakpoint {numbers}" if numbers else (stop.description or stop.reason)
    if stop.text and not numbers and stop.text not in why:
        why += f": {stop.text}"
    thread = debuggee.thread
    return one_line(f"stopped: {why}, thread {thread} ({debuggee.name_of(thread)})", 400)


def position(frame: Frame) -> str:
    """As pdb has it: `/shop/app.py(12)total()`."""
    return plain(f"{frame.path}({frame.line}){frame.name}{'' if frame.name.endswith('>') else '()'}")


def where(debuggee: Debuggee, lines: dict[int, str], count: int = 0) -> list[str]:
    """The frames, newest last as in pdb; `lines` has the source line of frames by their index."""
    frames = list(enumerate(debuggee.frames))[: count or None]
    shown = []
    for index, frame in reversed(frames):
        shown.append(f"{'>' if index == debuggee.index else ' '} #{index:<3} {position(frame)}")
        if lines.get(index):
            shown.append(f"       -> {one_line(lines[index].strip())}")
    left = max(debuggee.total, len(debuggee.frames)) - len(frames)
    return [f"  … {left} older frames", *shown] if left > 0 else shown


def listing(text: list[str], first: int, last: int, here: int, breakpoints: dict[int, Breakpoint]) -> list[str]:
    """Source lines `first` to `last`, with `->` at the current one and `B` at breakpoints, as in pdb."""
    shown = []
    for number in range(max(first, 1), min(last, len(text)) + 1):
        found = breakpoints.get(number)
        mark = ("B" if found.enabled else "b") if found else " "
        shown.append(f"{number:4} {mark}{'->' if number == here else '  '} {plain(text[number - 1])}".rstrip())
    return shown


def breakpoint_line(each: Breakpoint) -> str:
    """One line of `break` without an argument, and the answer to a new one."""
    wanted = each.wanted
    parts = [f"{each.number}", "trace" if wanted.log else "tbreak" if each.temporary else "break", str(wanted.place)]
    if each.line and each.line != wanted.place.line:
        parts.append(f"(at line {each.line})")
    for word, text in (("hits", wanted.hits), ("if", wanted.condition), ("", wanted.log)):
        if text:
            parts.append(f"{word} {text}".strip())
    line = " ".join(parts)
    if each.count:
        line += f", stopped here {each.count} time{'s' if each.count > 1 else ''}"
    if not each.enabled:
        return one_line(f"{line}, disabled", 400)
    if each.verified is False:
        line += f", not verified{f': {each.message}' if each.message else ''}"
    return one_line(line, 400)


def variables(found: Iterable[Variable]) -> list[str]:
    return [f"{one_line(each.name)} = {one_line(each.value)}" for each in found]


def threads(debuggee: Debuggee) -> list[str]:
    """All of them, the one that is looked at marked."""
    return [
        f"{'>' if thread.id == debuggee.thread else ' '} {thread.id:<4} {one_line(thread.name or '?')}"
        for thread in debuggee.threads.values()
    ]


def _written_out(character: str) -> str:
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

"""The commands about frames, threads, source, and the session itself."""

from squash.cli.console import messages as m
from squash.cli.console import render
from squash.cli.console.commands import COMMANDS, help_lines
from squash.cli.console.console import CommandError, Console, Handler
from squash.cli.console.dap_client import RefusedError
from squash.cli.console.debuggee import Stage
from squash.cli.console.places import Place, parse_place, resolve
from squash.cli.console.source import function_around
from squash.cli.console.stopping import here_on_this_machine

_SOURCES = 30
"""Frames of `where` whose source line is shown: each may have to be asked for."""


async def where(console: Console, argument: str) -> None:
    console.here()
    count = _count(argument, 0)
    debuggee = console.session.debuggee
    lines = {}
    for index, frame in enumerate(debuggee.frames[: min(count or _SOURCES, _SOURCES)]):
        found = await console.source_line(frame)
        lines[index] = found[0].removeprefix("-> ") if found else ""
    frames = [{"path": each.path, "line": each.line, "function": each.name} for each in debuggee.frames]
    console.screen.data(frames=frames[: count or None], current=debuggee.index)
    console.screen.say(*render.where(debuggee, lines, count))


async def up(console: Console, argument: str) -> None:
    await _move(console, _count(argument, 1), "the oldest frame")


async def down(console: Console, argument: str) -> None:
    await _move(console, -_count(argument, 1), "the newest frame")


async def frame(console: Console, argument: str) -> None:
    console.here()
    debuggee = console.session.debuggee
    wanted = _count(argument, debuggee.index)
    if wanted >= len(debuggee.frames):
        raise CommandError(f"there is no frame {wanted}; the oldest is {len(debuggee.frames) - 1}")
    debuggee.move(wanted)
    await _show_frame(console)


async def threads(console: Console, _argument: str) -> None:
    await console.session.look()
    debuggee = console.session.debuggee
    found = [{"id": each.id, "name": each.name} for each in debuggee.threads.values()]
    console.screen.data(threads=found, current=debuggee.thread)
    console.screen.say(*render.threads(debuggee))


async def thread(console: Console, argument: str) -> None:
    if not argument:
        await threads(console, "")
        return
    console.standing()
    wanted = _count(argument, 0)
    debuggee = console.session.debuggee
    await console.session.look()
    if wanted not in debuggee.threads:
        raise CommandError(f"there is no thread {wanted}; `threads` lists them")
    debuggee.look_at(wanted)
    console.listed = None
    await console.session.look()
    await _show_frame(console)


async def list_(console: Console, argument: str) -> None:
    source, first, last = await _listed(console, argument)
    text = await console.session.text(source)
    if first > len(text):
        console.listed = None
        raise CommandError(f"{render.plain(source.shown)} ends at line {len(text)}")
    _show_source(console, source, text, first, last)


async def longlist(console: Console, _argument: str) -> None:
    frame = console.here()
    source = _source(frame)
    text = await console.session.text(source)
    _show_source(console, source, text, *function_around(text, frame.line, frame.path))


async def status(console: Console, _argument: str) -> None:
    debuggee, terms = console.session.debuggee, console.terms
    console.screen.data(attachment=terms.attachment, stage=debuggee.stage.name.lower())
    console.screen.say(f"debug attachment {terms.attachment}: {debuggee.stage.value}")
    if terms.waiting and debuggee.stage is Stage.CONFIGURING:
        console.screen.say(f"request {terms.waiting} is held; set breakpoints, then `continue`")
    if terms.read_only:
        console.screen.say("this session may look, but change nothing")


async def help_(console: Console, argument: str) -> None:
    if argument and argument not in COMMANDS:
        raise CommandError(f"{argument!r} is no command; `help` lists them, and code is evaluated")
    console.screen.say(*help_lines(argument))


async def _move(console: Console, by: int, end: str) -> None:
    console.here()
    debuggee = console.session.debuggee
    before = debuggee.index
    debuggee.move(before + by)
    if debuggee.index == before:
        raise CommandError(f"this is {end}")
    await _show_frame(console)


async def _show_frame(console: Console) -> None:
    console.listed = None
    frame = console.here()
    console.screen.data(path=frame.path, line=frame.line, function=frame.name)
    console.screen.say(f"> {render.position(frame)}", *await console.source_line(frame))


async def _listed(console: Console, argument: str) -> tuple[m.Source, int, int]:
    """Of what a person wants to see: the source, first and last line."""
    around = 2 * render.AROUND
    if not argument and console.listed:
        path, shown = console.listed
        frame = console.session.debuggee.frame
        source = frame.source if frame and frame.source and frame.path == path else m.Source(path=path)
        return source, shown + 1, shown + 1 + around
    if argument in ("", "."):
        frame = console.here()
        return _source(frame), max(1, frame.line - render.AROUND), frame.line + render.AROUND
    first, comma, last = (part.strip() for part in argument.partition(","))
    place = parse_place(first)
    if place.function:
        raise CommandError(f"expected lines, not {argument!r}: `longlist` shows the function that it stands in")
    source = await _named(console, place)
    if not comma:
        return source, max(1, place.line - render.AROUND), place.line + render.AROUND
    to = _count(last, place.line)
    return source, place.line, to if to >= place.line else place.line + to


async def _named(console: Console, place: Place) -> m.Source:
    if place.path:
        return m.Source(path=resolve(place.path, await console.session.known(), here_on_this_machine))
    if console.session.debuggee.frame:
        return _source(console.here())
    if console.listed:
        return m.Source(path=console.listed[0])
    raise CommandError(f"line {place.line} of which file? Nothing stands yet: give FILE:{place.line}")


def _source(frame: m.Frame) -> m.Source:
    if not frame.source:
        raise RefusedError("the debug server tells of no source for this frame")
    return frame.source


def _show_source(console: Console, source: m.Source, text: list[str], first: int, last: int) -> None:
    frame = console.session.debuggee.frame
    here = frame.line if frame and frame.path == source.shown else 0
    breakpoints = console.session.breakpoints.at(source.shown)
    console.screen.data(path=source.shown, first=first, current=here or None)
    console.screen.say(*render.listing(text, first, last, here, breakpoints))
    console.listed = source.shown, min(last, len(text))


def _count(argument: str, default: int) -> int:
    if not argument:
        return default
    if not (argument.isascii() and argument.isdigit() and len(argument) < 19):
        raise CommandError(f"{argument!r} is no number")
    return int(argument)


MOVING: dict[str, Handler] = {
    "where": where,
    "up": up,
    "down": down,
    "frame": frame,
    "threads": threads,
    "thread": thread,
    "list": list_,
    "longlist": longlist,
    "status": status,
    "help": help_,
}

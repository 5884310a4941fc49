"""The commands about breakpoints."""

import os
from dataclasses import replace
from pathlib import Path

from squash.cli.console import render
from squash.cli.console.breakpoints import FUNCTIONS, Breakpoint
from squash.cli.console.console import CommandError, Console, Handler
from squash.cli.console.dap_client import RefusedError
from squash.cli.console.places import Place, Wanted, parse_break, parse_log, parse_place, resolve


async def break_(console: Console, argument: str) -> None:
    if not argument:
        _show_all(console)
        return
    await _add(console, parse_break(argument))


async def tbreak(console: Console, argument: str) -> None:
    await _add(console, parse_break(argument), temporary=True)


async def trace(console: Console, argument: str) -> None:
    await _add(console, parse_log(argument))


async def clear(console: Console, argument: str) -> None:
    breakpoints = console.session.breakpoints
    for each in await _meant(console, argument):
        breakpoints.remove(each.number)
        await console.session.set_breakpoints(each.place.path)
        console.screen.say(f"breakpoint {each.number} is gone")


async def disable(console: Console, argument: str) -> None:
    await _enable(console, argument, enabled=False)


async def enable(console: Console, argument: str) -> None:
    await _enable(console, argument, enabled=True)


async def condition(console: Console, argument: str) -> None:
    number, _, text = argument.partition(" ")
    each = _numbered(console, number)
    if text.strip() and not console.session.capabilities.supports_conditional_breakpoints:
        raise CommandError("this debugger takes no conditions")
    await _changed(console, each, replace(each.wanted, condition=text.strip()))


async def ignore(console: Console, argument: str) -> None:
    number, _, text = argument.partition(" ")
    each = _numbered(console, number)
    count = text.strip() or "0"
    if not (count.isascii() and count.isdigit()):
        raise CommandError(f"{count!r} is no number of times")
    if not console.session.capabilities.supports_hit_conditional_breakpoints:
        raise CommandError("this debugger does not count hits")
    await _changed(console, each, replace(each.wanted, hits=f"> {count}" if int(count) else ""))


async def exceptions(console: Console, argument: str) -> None:
    session = console.session
    offered = session.capabilities.exception_breakpoint_filters or []
    if not offered:
        raise CommandError("this debugger does not stop at exceptions")
    names = [each.filter for each in offered]
    if argument:
        chosen = [] if argument == "off" else argument.replace(",", " ").split()
        if unknown := [name for name in chosen if name not in names]:
            raise CommandError(f"{unknown[0]!r} is not one of {', '.join(names)}; or say `off`")
        await session.set_exceptions(chosen)
    on = session.exceptions or []
    console.screen.data(exceptions=on)
    for each in offered:
        mark = "on " if each.filter in on else "off"
        console.screen.say(f"{mark} {render.one_line(each.filter)}: {render.one_line(each.label)}")


def here_on_this_machine(typed: str) -> str | None:
    """The absolute path of a file of this machine."""
    path = Path(typed).expanduser()
    return os.path.realpath(path) if path.is_file() else None


async def _add(console: Console, wanted: Wanted, *, temporary: bool = False) -> None:
    wanted = replace(wanted, place=await _placed(console, wanted.place))
    _check(console, wanted)
    made = await console.session.add_breakpoint(wanted, temporary=temporary)
    console.screen.data(breakpoint=_document(made))
    console.screen.say(render.breakpoint_line(made))


async def _placed(console: Console, place: Place) -> Place:
    """With a whole path."""
    if place.function:
        return place
    frame = console.session.debuggee.frame
    if not place.path:
        path = frame.path if frame else console.listed[0] if console.listed else ""
        if not path:
            raise CommandError(f"line {place.line} of which file? Nothing stands yet: give FILE:{place.line}")
        return replace(place, path=path)
    return replace(place, path=resolve(place.path, await console.session.known(), here_on_this_machine))


def _check(console: Console, wanted: Wanted) -> None:
    """Raises CommandError for what this debugger cannot do, rather than have it silently left out."""
    can = console.session.capabilities
    for asked, able, what in (
        (wanted.place.function, can.supports_function_breakpoints, "breakpoints on functions"),
        (wanted.condition, can.supports_conditional_breakpoints, "conditions"),
        (wanted.hits, can.supports_hit_conditional_breakpoints, "hit counts"),
        (wanted.log, can.supports_log_points, "messages instead of stops"),
    ):
        if asked and not able:
            raise CommandError(f"this debugger has no {what}")


async def _enable(console: Console, argument: str, *, enabled: bool) -> None:
    breakpoints = console.session.breakpoints
    meant = await _meant(console, argument)
    for each in meant:
        breakpoints.change(each.number, enabled=enabled)
    for path in sorted({each.place.path for each in meant}):
        await console.session.set_breakpoints(path)
    for each in meant:
        console.screen.say(render.breakpoint_line(breakpoints.get(each.number) or each))


async def _changed(console: Console, each: Breakpoint, wanted: Wanted) -> None:
    """Puts `wanted` in the breakpoint's place; as it was when the debug server does not take it."""
    breakpoints = console.session.breakpoints
    breakpoints.change(each.number, wanted=wanted)
    try:
        await console.session.set_breakpoints(each.place.path)
    except RefusedError:
        breakpoints.change(each.number, wanted=each.wanted)
        raise
    console.screen.say(render.breakpoint_line(breakpoints.get(each.number) or each))


async def _meant(console: Console, argument: str) -> list[Breakpoint]:
    """By numbers, or by place; all of them when the argument is empty. Raises CommandError."""
    everything = list(console.session.breakpoints)
    if not argument:
        return everything
    if all(word.isascii() and word.isdigit() for word in argument.split()):
        return [_numbered(console, word) for word in argument.split()]
    place = await _placed(console, parse_place(argument))
    found = [
        each
        for each in everything
        if each.place == place or (each.place.path == place.path and not place.function and each.line == place.line)
    ]
    if not found:
        raise CommandError(f"there is no breakpoint at {place}")
    return found


def _numbered(console: Console, number: str) -> Breakpoint:
    digits = number.isascii() and number.isdigit() and len(number) < 10
    found = console.session.breakpoints.get(int(number)) if digits else None
    if not found:
        raise CommandError(f"there is no breakpoint {number or 'without a number'}; `break` lists them")
    return found


def _show_all(console: Console) -> None:
    breakpoints = list(console.session.breakpoints)
    console.screen.data(breakpoints=[_document(each) for each in breakpoints])
    console.screen.say(*(render.breakpoint_line(each) for each in breakpoints) if breakpoints else ("no breakpoints",))


def _document(each: Breakpoint) -> dict[str, object]:
    place = {"function": each.place.function} if each.place.path == FUNCTIONS else {"path": each.place.path}
    where = {"line": each.line or each.place.line} if each.place.line else {}
    return {"number": each.number, **place, **where, "verified": each.verified, "message": each.message}


STOPPING: dict[str, Handler] = {
    "break": break_,
    "tbreak": tbreak,
    "trace": trace,
    "clear": clear,
    "disable": disable,
    "enable": enable,
    "condition": condition,
    "ignore": ignore,
    "exceptions": exceptions,
}

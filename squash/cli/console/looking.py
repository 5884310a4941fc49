"""The commands that show values, and those that change them."""

import re

from squash.cli.console import messages as m
from squash.cli.console import render
from squash.cli.console.console import CommandError, Console, Handler
from squash.cli.console.dap_client import RefusedError
from squash.cli.console.debuggee import Stage
from squash.cli.console.source import parameters

_SET = re.compile(r"(?P<name>[^=!<>]+?)\s*=(?!=)\s*(?P<value>\S.*)", re.DOTALL)
_NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")
CHILDREN = 100
"""Parts of a value that `pp` shows at each level."""
DEPTH = 3
"""Levels of parts within parts that `pp` shows."""


async def print_(console: Console, argument: str) -> None:
    await _print(console, argument, whole=False)


async def full(console: Console, argument: str) -> None:
    await _print(console, argument, whole=True)


async def pp(console: Console, argument: str) -> None:
    found = await _value(console, _given(argument))
    console.screen.data(value=found.result, type=found.type)
    if not found.variables_reference:
        console.screen.say(*render.value(found.result, whole=False))
        return
    console.screen.say(render.one_line(found.result))
    await _parts(console, found.variables_reference, 1)


async def whatis(console: Console, argument: str) -> None:
    found = await _value(console, _given(argument))
    if not found.type:
        raise CommandError("this debugger does not tell types")
    console.screen.data(type=found.type)
    console.screen.say(render.one_line(found.type))


async def evaluate(console: Console, argument: str) -> None:
    """A line that is no command: an expression, whose value is shown, or a statement."""
    await _print(console, argument, whole=False)


async def args(console: Console, _argument: str) -> None:
    """Debuggers that tell arguments apart do so by a scope of their own; else they are the first of the locals."""
    console.here()
    scopes = await console.session.scopes()
    own = next((each for each in scopes if each.presentation_hint == "arguments"), None)
    if own:
        _show(console, await console.session.variables(own.variables_reference))
        return
    frame = console.here()
    names = await _parameters(console, frame)
    found = {each.name: each for each in await console.session.locals()}
    _show(console, [found[name] for name in names if name in found])


async def locals_(console: Console, _argument: str) -> None:
    console.here()
    _show(console, [each for each in await console.session.locals() if not _made_up(each)])


async def set_(console: Console, argument: str) -> None:
    found = _SET.fullmatch(argument.removeprefix("var ").removeprefix("variable ").strip())
    if not found:
        raise CommandError("expected NAME = VALUE")
    frame, name, value = console.here(), found["name"].strip(), found["value"]
    session = console.session
    if session.capabilities.supports_set_expression:
        changed = await session.ask("setExpression", m.Changed, expression=name, value=value, frameId=frame.id)
        shown = changed.value
    elif session.capabilities.supports_set_variable and (holder := await _holder(console, name)):
        changed = await session.ask("setVariable", m.Changed, variablesReference=holder, name=name, value=value)
        shown = changed.value
    else:
        await session.evaluate(f"{name} = {value}")
        shown = (await session.evaluate(name)).result
    console.screen.data(value=shown)
    console.screen.say(f"{render.one_line(name)} = {render.one_line(shown)}")


async def watch(console: Console, argument: str) -> None:
    if argument:
        number = max(console.watches, default=0) + 1
        console.watches[number] = argument
    for number, expression in console.watches.items():
        if argument and expression != argument:
            continue
        line = f"watch {number}: {render.one_line(expression)}"
        if console.session.debuggee.stage is Stage.STOPPED:
            console.values[number] = await console.value_of(expression)
            line += f" = {render.one_line(console.values[number])}"
        console.screen.say(line)
    if not console.watches:
        console.screen.say("nothing is watched")


async def unwatch(console: Console, argument: str) -> None:
    gone = [n for n, expression in console.watches.items() if argument in ("", str(n), expression)]
    if argument and not gone:
        raise CommandError(f"{argument!r} is not watched; `watch` lists what is")
    for number in gone:
        del console.watches[number]
        console.values.pop(number, None)


async def _print(console: Console, argument: str, *, whole: bool) -> None:
    found = await _value(console, _given(argument))
    console.screen.data(value=found.result, type=found.type)
    if found.result:
        console.screen.say(*render.value(found.result, whole))


async def _value(console: Console, expression: str) -> m.Evaluated:
    """Evaluated by the debug server; in a session that may only look, a name is looked up instead."""
    console.here()
    try:
        return await console.session.evaluate(expression)
    except RefusedError:
        found = await _looked_up(console, expression) if console.terms.read_only else None
        if found is None:
            raise
        return m.Evaluated(result=found.value, type=found.type, variables_reference=found.variables_reference)


async def _looked_up(console: Console, expression: str) -> m.Variable | None:
    """A variable by its name, or a part of one (`order.total`), which runs no code in the process."""
    if not _NAME.fullmatch(expression):
        return None
    first, *parts = expression.split(".")
    for scope in await console.session.scopes():
        found = await _named(console, scope.variables_reference, first)
        for part in parts:
            found = await _named(console, found.variables_reference, part) if found else None
        if found:
            return found
    return None


async def _named(console: Console, reference: int, name: str) -> m.Variable | None:
    inside = await console.session.variables(reference) if reference else []
    return next((each for each in inside if each.name == name), None)


async def _holder(console: Console, name: str) -> int:
    """The reference of the scope that has the variable; 0 when none has."""
    for scope in await console.session.scopes():
        if await _named(console, scope.variables_reference, name):
            return scope.variables_reference
    return 0


async def _parts(console: Console, reference: int, level: int) -> None:
    inside = [each for each in await console.session.variables(reference) if not _made_up(each)]
    for each in inside[:CHILDREN]:
        console.screen.say(f"{'  ' * level}{render.one_line(each.name)}: {render.one_line(each.value)}")
        if each.variables_reference and level < DEPTH and not each.name.startswith("__"):
            await _parts(console, each.variables_reference, level + 1)
    if len(inside) > CHILDREN:
        console.screen.say(f"{'  ' * level}… and {len(inside) - CHILDREN} more")


def _made_up(each: m.Variable) -> bool:
    """debugpy tells of groups (`special variables`) and of lengths (`len()`) among the parts of a value."""
    return each.name.endswith((" variables", "()"))


async def _parameters(console: Console, frame: m.Frame) -> list[str]:
    """The names of a Python function's parameters, from its source. Raises CommandError where they cannot be told."""
    text = await console.session.text(frame.source) if frame.source else []
    names = parameters(text, frame.line, frame.path)
    if names is None:
        raise CommandError("this debugger does not tell arguments from other variables: see `locals`")
    return names


def _show(console: Console, found: list[m.Variable]) -> None:
    console.screen.data(variables=[{"name": each.name, "value": each.value, "type": each.type} for each in found])
    console.screen.say(*render.variables(found) if found else ("none",))


def _given(argument: str) -> str:
    if not argument:
        raise CommandError("expected an expression")
    return argument


LOOKING: dict[str, Handler] = {
    "print": print_,
    "full": full,
    "pp": pp,
    "whatis": whatis,
    "!": evaluate,
    "args": args,
    "locals": locals_,
    "set": set_,
    "watch": watch,
    "unwatch": unwatch,
}

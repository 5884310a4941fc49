"""The commands that let the process run, or stop it."""

from squash.cli.console import messages as m
from squash.cli.console.console import CommandError, Console, Handler, QuitError
from squash.cli.console.debuggee import Stage
from squash.cli.console.places import Place, Wanted, parse_place

_LONGEST_UNTIL = 10_000
"""Steps after which `until` gives up: a loop that never comes further down."""


async def continue_(console: Console, argument: str) -> None:
    stage = console.session.debuggee.stage
    if stage is Stage.CONFIGURING:
        await ready(console, argument)
    elif stage is Stage.RUNNING:
        console.settled.clear()
        await console.rest()
    else:
        await console.resume("continue")


async def ready(console: Console, _argument: str) -> None:
    debuggee = console.session.debuggee
    if debuggee.stage is not Stage.CONFIGURING:
        raise CommandError(f"you have said so already: {debuggee.stage.value}")
    console.settled.clear()
    await console.session.configured()
    if console.terms.waiting:
        console.screen.hint(f"ready: request {console.terms.waiting} goes on")
    if not console.settled.is_set():
        await console.rest()


async def next_(console: Console, _argument: str) -> None:
    await console.resume("next")


async def step(console: Console, _argument: str) -> None:
    await console.resume("stepIn")


async def return_(console: Console, _argument: str) -> None:
    await console.resume("stepOut")


async def until(console: Console, argument: str) -> None:
    frame = console.here()
    if argument:
        line = _line(argument)
        path = frame.path
        await console.session.add_breakpoint(Wanted(Place(path=path, line=line)), temporary=True)
        await console.resume("continue")
        return
    console.muted = True
    try:
        await _further_down(console, frame)
    finally:
        console.muted = False
    stop = console.session.debuggee.stop
    if stop:
        await console.show_stop(stop, [])


async def _further_down(console: Console, frame: m.Frame) -> None:
    debuggee = console.session.debuggee
    depth = len(debuggee.frames)
    for _ in range(_LONGEST_UNTIL):
        await console.resume("next")
        now, stop = debuggee.frame, debuggee.stop
        if not now or not stop or stop.reason != "step":
            return
        if len(debuggee.frames) < depth or now.path != frame.path or now.line > frame.line:
            return
    raise CommandError(f"after {_LONGEST_UNTIL} steps it is still not further down")


async def jump(console: Console, argument: str) -> None:
    frame, thread = console.here(), console.standing()
    if not console.session.capabilities.supports_goto_targets_request:
        raise CommandError("this debugger cannot jump")
    line = _line(argument)
    source = {"path": frame.path, "name": frame.path.rpartition("/")[2]}
    targets = (await console.session.ask("gotoTargets", m.Targets, source=source, line=line)).targets
    if not targets:
        raise CommandError(f"there is nothing to jump to at line {line}")
    console.settled.clear()
    await console.session.ask("goto", m.Nothing, threadId=thread, targetId=targets[0].id)
    await console.rest()


async def pause(console: Console, _argument: str) -> None:
    debuggee = console.session.debuggee
    if debuggee.stage is not Stage.RUNNING:
        raise CommandError(debuggee.stage.value)
    await console.session.look()
    if debuggee.thread is None:
        raise CommandError("the debugger tells of no thread that could be stopped")
    console.settled.clear()
    await console.session.ask("pause", m.Nothing, threadId=debuggee.thread)
    await console.rest()


async def quit_(_console: Console, _argument: str) -> None:
    raise QuitError


async def kill(console: Console, _argument: str) -> None:
    if not console.terms.may_kill:
        raise CommandError(
            "this debug attachment does not allow to end the process; `quit` leaves it running. "
            "Whoever makes the debug request may allow it"
        )
    if console.terms.read_only:
        raise CommandError("this session may only look; `quit` leaves the process running")
    raise QuitError(kill=True)


def _line(argument: str) -> int:
    place = parse_place(argument)
    if not place.line or place.path:
        raise CommandError(f"expected a line of this file, not {argument!r}")
    return place.line


RUNNING: dict[str, Handler] = {
    "continue": continue_,
    "ready": ready,
    "next": next_,
    "step": step,
    "return": return_,
    "until": until,
    "jump": jump,
    "pause": pause,
    "quit": quit_,
    "kill": kill,
}

"""The console itself: a line in, what it asks for done; and what happens by itself told."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from squash.cli.console import render
from squash.cli.console.breakpoints import FUNCTIONS, Breakpoint
from squash.cli.console.commands import Command, parse
from squash.cli.console.dap_client import LostError, RefusedError
from squash.cli.console.debuggee import Stage
from squash.cli.console.messages import Frame, Stopped
from squash.cli.console.places import PlaceError
from squash.cli.console.screen import Screen
from squash.cli.console.session import Session
from squash.tasks import spawn

QUICK = 0.5
"""Seconds after which somebody who waits for a stop is told that there was none yet."""
SLOW = 2.0
"""Seconds after which somebody who waits for an answer is told what for."""


class CommandError(Exception):
    """A command cannot be done; the message says why."""


class QuitError(Exception):
    """The person wants to leave. `kill`: and the process to end."""

    def __init__(self, *, kill: bool = False) -> None:
        super().__init__()
        self.kill = kill


class GaveUpError(Exception):
    """Somebody did not want to wait any longer."""


class LateError(Exception):
    """What a script waits for did not come in time."""


class Input(Protocol):
    """Where lines come from."""

    interactive: bool

    async def line(self, prompt: Callable[[], str]) -> str | None:
        """None when there are no more."""

    async def enough(self, *, resting: bool) -> None:
        """Returns when whatever is waited for is not wanted any more: Ctrl-C. `resting`: for the process to stand.

        A script raises LateError when its time is over, and while resting QuitError when it has no more to say.
        """


@dataclass(frozen=True)
class Terms:
    """What this session may do, and what it was for."""

    attachment: str
    may_kill: bool = False
    read_only: bool = False
    waiting: str = ""
    """The request that is held until the breakpoints are set, like `GET /cart`; empty when none is."""


@dataclass
class Console:
    session: Session
    screen: Screen
    input: Input
    terms: Terms
    handlers: Mapping[str, "Handler"]
    watches: dict[int, str] = field(default_factory=dict)
    """Expressions shown at each stop, by number."""
    values: dict[int, str] = field(default_factory=dict)
    """What they were at the last stop."""
    listed: tuple[str, int] | None = None
    """The file that `list` goes on in, and the last line shown."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while nothing is awaited of the process: it stands, is over, or nobody let it run."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process has ended, or the connection is lost."""
    muted: bool = False
    """Whether stops are not told: a command looks at them itself."""
    _last: str = ""

    # -- what is typed -----------------------------------------------------------------------------

    def prompt(self) -> str:
        return "(running) " if self.session.debuggee.stage is Stage.RUNNING else "(squash) "

    async def run_line(self, line: str) -> str:
        """Does what a line asks for; returns what went wrong. Raises QuitError, LateError."""
        text = line.strip() or self._last
        parsed = parse(text)
        if parsed is None:
            return ""
        self._last = text
        self.screen.begin()
        error = ""
        try:
            await self._do(parsed.command, parsed.argument)
        except (CommandError, RefusedError, PlaceError) as problem:
            error = render.refusal(str(problem))
        except GaveUpError:
            error = "gave up waiting for the debugger's answer"
        except LostError as problem:
            error = f"the connection is lost: {render.plain(str(problem))}"
        finally:
            self.screen.end(text, error)
        return error

    async def _do(self, command: Command | None, argument: str) -> None:
        name = command.name if command else "!"
        await self.handlers[name](self, argument)

    # -- running and standing ----------------------------------------------------------------------

    async def resume(self, command: str, **arguments: Any) -> None:
        """Lets the process run by a request of the protocol, and waits until it stands again."""
        thread = self.standing()
        self.settled.clear()
        before = self.session.debuggee.stop
        self.session.debuggee.resumed()
        try:
            await self.session.ask(command, dict, threadId=thread, **arguments)
        except RefusedError:
            if before and self.session.debuggee.stage is Stage.RUNNING:
                self.session.debuggee.stopped(before)
                await self.session.look()
            self.settled.set()
            raise
        await self.rest()

    async def rest(self) -> None:
        """Waits until the process stands, or is over; or until whoever waits has had enough."""
        settled, impatience = spawn(self.settled.wait(), "settled"), spawn(self._enough(resting=True), "impatience")
        try:
            done, _ = await asyncio.wait({settled, impatience}, timeout=QUICK, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                if self.input.interactive:
                    self.screen.hint("the process runs; Ctrl-C gives the prompt back")
                await asyncio.wait({settled, impatience}, return_when=asyncio.FIRST_COMPLETED)
            if settled.done():
                return
            if error := impatience.result():
                raise error
            self.settled.set()
            self.screen.hint("the process runs on; `pause` stops it, `quit` leaves it running")
        finally:
            settled.cancel()
            impatience.cancel()

    async def patience(self, answer: "asyncio.Future[Any]", command: str) -> None:
        """Waits for an answer of the debug server; says so when it takes long. Raises GaveUpError, LateError."""
        done, _ = await asyncio.wait({answer}, timeout=SLOW)
        if done:
            return
        if self.input.interactive:
            self.screen.hint(f"waiting for the debugger to answer `{command}`; Ctrl-C gives up")
        impatience = spawn(self._enough(resting=False), "impatience")
        try:
            await asyncio.wait({answer, impatience}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                error = impatience.result()
                raise error if isinstance(error, LateError) else GaveUpError
        finally:
            impatience.cancel()

    async def _enough(self, *, resting: bool) -> QuitError | LateError | None:
        try:
            await self.input.enough(resting=resting)
        except (QuitError, LateError) as error:
            return error
        return None

    # -- what happens by itself --------------------------------------------------------------------

    async def announce(self) -> None:
        """Tells of each stop, and of the end, for as long as it is let."""
        while True:
            await self.session.turns.get()
            try:
                await self._announce()
            except RefusedError as error:
                self.screen.told(f"the debug server does not tell where it stands: {error}")
            except (LostError, GaveUpError, LateError):
                pass  # the end is announced by itself
            finally:
                self.settled.set()
                if self.session.debuggee.over:
                    self.over.set()

    async def _announce(self) -> None:
        debuggee = self.session.debuggee
        stop = debuggee.stop
        if debuggee.stage is Stage.ENDED and debuggee.exit_code is not None:
            status = debuggee.exit_code
            self.screen.event([f"the process has ended with status {status}"], event="ended", status=status)
        elif stop:
            await self.session.look()
            hit = await self._hit(stop)
            if not self.muted:
                await self.show_stop(stop, hit)

    async def _hit(self, stop: Stopped) -> list[Breakpoint]:
        """The breakpoints that made it stop; temporary ones are gone after it."""
        frame = self.session.debuggee.frame
        if "breakpoint" not in stop.reason or not frame:
            return []
        hit = self.session.breakpoints.hit(stop.hit_breakpoint_ids or [], frame.path, frame.line)
        if not hit and stop.reason == "function breakpoint":
            named = (each for each in self.session.breakpoints.of(FUNCTIONS) if each.place.function == frame.name)
            hit = [self.session.breakpoints.change(each.number, count=each.count + 1) for each in named]
        for path in {each.place.path for each in hit if each.temporary}:
            for each in hit:
                if each.temporary and each.place.path == path:
                    self.session.breakpoints.remove(each.number)
            await self.session.set_breakpoints(path)
        return hit

    async def show_stop(self, stop: Stopped, hit: list[Breakpoint]) -> None:
        debuggee = self.session.debuggee
        frame = debuggee.frame
        # As in pdb, somebody who steps knows why it stands.
        lines = [] if stop.reason == "step" else [render.headline(debuggee, stop, hit)]
        self.listed = None
        if frame:
            lines += [f"> {render.position(frame)}", *await self.source_line(frame)]
        place = {"path": frame.path, "line": frame.line, "function": frame.name} if frame else {}
        shown = await self._watched()
        self.screen.event(
            [*lines, *shown.values()],
            event="stopped",
            reason=stop.reason,
            thread=debuggee.thread,
            breakpoints=[each.number for each in hit],
            watches={self.watches[number]: self.values[number] for number in shown},
            **place,
        )

    async def source_line(self, frame: Frame) -> list[str]:
        """As pdb shows where it stands; empty when the source is not to be had."""
        if not frame.source or not frame.line:
            return []
        try:
            text = await self.session.text(frame.source)
        except RefusedError:
            return []
        return [f"-> {render.plain(text[frame.line - 1].strip())}"] if frame.line <= len(text) else []

    async def _watched(self) -> dict[int, str]:
        """A line for each expression that is watched."""
        shown = {}
        for number, expression in self.watches.items():
            old = self.values.get(number)
            self.values[number] = new = await self.value_of(expression)
            changed = f"  [was {render.one_line(old)}]" if old is not None and old != new else ""
            shown[number] = f"watch {number}: {render.one_line(expression)} = {render.one_line(new)}{changed}"
        return shown

    async def value_of(self, expression: str) -> str:
        """Its value, or why there is none."""
        try:
            return (await self.session.evaluate(expression, "watch")).result
        except RefusedError as error:
            return f"*** {render.refusal(str(error))}"

    # -- what commands need ------------------------------------------------------------------------

    def standing(self) -> int:
        """The thread that stands. Raises CommandError while the process runs, or is over."""
        debuggee = self.session.debuggee
        if debuggee.stage is Stage.STOPPED and debuggee.thread is not None:
            return debuggee.thread
        hints = {
            Stage.CONFIGURING: "nothing stands yet: `continue` says that your breakpoints are set",
            Stage.RUNNING: "the process runs: `pause` stops it",
        }
        raise CommandError(hints.get(debuggee.stage, debuggee.stage.value))

    def here(self) -> Frame:
        """The frame that is looked at. Raises CommandError."""
        self.standing()
        frame = self.session.debuggee.frame
        if frame is None:
            raise CommandError("this thread has no frame to look at: `threads` shows the others")
        return frame


Handler = Callable[[Console, str], Awaitable[None]]

"""A console from its first word to its last: connects, talks, reconnects, leaves."""

import asyncio
import signal
import sys
from collections.abc import Coroutine, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from squash.cli.console.completion import Completion
from squash.cli.console.console import Console, LateError, QuitError, Terms
from squash.cli.console.dap_client import DapClient, LostError, RefusedError
from squash.cli.console.debuggee import Stage
from squash.cli.console.link import Link
from squash.cli.console.looking import LOOKING
from squash.cli.console.moving import MOVING
from squash.cli.console.render import one_line, plain
from squash.cli.console.running import RUNNING
from squash.cli.console.screen import Screen
from squash.cli.console.script import Script
from squash.cli.console.session import Session
from squash.cli.console.stopping import STOPPING
from squash.cli.console.terminal import Terminal
from squash.cli.describe import container
from squash.cli.editors import titles
from squash.cli.exits import Exit
from squash.cli.front import Front
from squash.cli.person import person
from squash.cli.serving import over
from squash.errors import SettingError, SquashError
from squash.model import DebugAttachment, HoldUntil
from squash.reasons import Reason
from squash.settings import state_home
from squash.tasks import spawn
from squash.tunnel import Guest

T = TypeVar("T")
HANDLERS = RUNNING | STOPPING | LOOKING | MOVING
SPEAKS = ("dap", "delve")
"""Protocols of debug servers that take a DAP client: delve's takes one besides its own."""
AWAY = (Reason.AGENT_AWAY, Reason.COORDINATOR_UNREACHABLE, Reason.STOPPING)
"""Why a connection cannot be made again yet."""
COMING_BACK = 15.0
"""Seconds that a coordinator may take to come back, and its agents to find it."""
PAUSE = 0.3
"""Seconds between tries to connect again."""
EXPLAINED = 3.0
"""Seconds that the coordinator may take to know why a connection broke: the agent tells it at once."""


@dataclass(frozen=True)
class Options:
    """How a console is begun."""

    read_only: bool = False
    takeover: bool = False
    breakpoints: Sequence[str] = ()
    """Each as after `break`."""
    script: Path | None = None
    """Commands to be done before the first prompt."""
    go: bool = False
    """The breakpoints that were given are all: the held request goes on at once."""


def run(squash: Front, attachment: DebugAttachment, options: Options = Options()) -> Exit:
    """Debugs an attachment whose debug server listens; returns how it ended. Raises SquashError."""
    if attachment.status.protocol not in SPEAKS:
        raise SettingError(_other_protocol(attachment))
    first = [f"break {each}" for each in options.breakpoints]
    if options.script:
        first += _read(options.script)
    return asyncio.run(_App(squash, attachment, options, first).run())


def _other_protocol(attachment: DebugAttachment) -> str:
    speaks = attachment.status.protocol or "no protocol yet"
    text = f"the console speaks dap, and the debug server of {attachment.name} speaks {speaks}"
    if speaks == "gdb":
        return f"{text}: use `gdb -ex 'target remote | squashctl connect {attachment.name} --stdio'`"
    if known := titles(speaks):
        text += f": use `squashctl connect {attachment.name}`, and then {', '.join(known[:-1])} or {known[-1]}"
    return text


def _read(script: Path) -> list[str]:
    try:
        lines = script.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"-x {str(script)!r} cannot be read: {error}") from error
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


class _App:
    def __init__(self, squash: Front, attachment: DebugAttachment, options: Options, first: list[str]) -> None:
        self._squash = squash
        self._attachment = attachment
        self._options = options
        self._first = first
        self._screen = Screen(squash.output.as_json)
        self._session = Session(self._screen.told)
        self._status = Exit.DONE
        self._stopped: Exit | None = None
        spec = attachment.spec
        self._terms = Terms(
            attachment=attachment.name,
            may_kill=bool(spec.allow_terminate),
            read_only=options.read_only or bool(spec.read_only),
            waiting=_waiting(attachment),
        )

    async def run(self) -> Exit:
        task = asyncio.current_task()
        assert task  # noqa: S101 - for the type checker
        loop = asyncio.get_running_loop()
        terminal = self._terminal()
        source = terminal or Script(self._squash.settings.timeout, self._screen.echo)
        console = self._console = Console(self._session, self._screen, source, self._terms, HANDLERS)
        self._session.patience = console.patience

        def stop(status: Exit) -> None:
            self._stopped = status
            task.cancel()

        loop.add_signal_handler(signal.SIGTERM, stop, Exit.TERMINATED)
        loop.add_signal_handler(signal.SIGHUP, stop, Exit.TERMINATED)
        if terminal:
            loop.add_signal_handler(signal.SIGINT, terminal.interrupt)
        else:
            loop.add_signal_handler(signal.SIGINT, stop, Exit.INTERRUPTED)
        try:
            with terminal.above() if terminal else nullcontext():
                return await self._live(console, terminal)
        except asyncio.CancelledError:
            if self._stopped is None:
                raise
            return self._stopped

    def _terminal(self) -> Terminal | None:
        if self._squash.output.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return None
        history = state_home() / "console-history" if self._squash.settings.console_history else None
        return Terminal(lambda text: Completion(self._console).suggest(text), history, self._screen.hint)

    async def _live(self, console: Console, terminal: Terminal | None) -> Exit:
        """One connection after another, as long as the person wants to reconnect."""
        again = False
        announcing = spawn(console.announce(), "announcements")
        try:
            while True:
                broken = await self._connection(console, again=again)
                if broken is None:
                    return self._status
                why = await self._explained(broken)
                if why.reason is Reason.PROCESS_GONE:
                    self._screen.event([f"the process has ended: {plain(why.message)}"], event="ended", status=None)
                    return Exit.DONE
                if not terminal or why.reason is not Reason.STREAM_BROKEN:
                    raise why
                self._screen.say(plain(why.message), style="error")
                if not await terminal.ask("connect again?"):
                    raise why
                again = True
        finally:
            announcing.cancel()

    async def _connection(self, console: Console, *, again: bool) -> SquashError | None:
        """Returns None when it was ended by us or with the process, else why it broke."""
        debuggee = self._session.debuggee
        configured = again and debuggee.was_configured
        guest = Guest(client=person(), takeover=self._options.takeover, read_only=self._options.read_only)
        link = await self._link(guest, patience=COMING_BACK if again else 0.0)
        debuggee.connected()
        console.over.clear()
        client = DapClient(link.reader, link.writer, self._session.on_event)
        reading = spawn(self._read_on(client), "debug server")
        kill = False
        try:
            await self._begin(console, client, configured=configured, again=again)
            await self._talk(console)
        except QuitError as error:
            kill = error.kill
            self._part(kill=kill)
        except LateError as error:
            self._screen.say(f"*** {error}", style="error")
            self._status = Exit.TIMEOUT
            self._part()
        except RefusedError as error:
            self._screen.say(f"*** the debug server refused: {plain(str(error))}", style="error")
            self._status = Exit.REFUSED
        except LostError:
            pass  # what broke is told below
        finally:
            # Before we leave: some debug servers say then that they have ended.
            stage = debuggee.stage
            await _see_through(self._session.leave(kill=kill))
            broken = await _see_through(link.close())
            reading.cancel()
        if stage is Stage.LOST:
            return broken or SquashError(Reason.STREAM_BROKEN, f"the connection ended: {client.lost}")
        if stage is Stage.ENDED and debuggee.exit_code is None:
            return SquashError(Reason.STREAM_BROKEN, stage.value)
        return None

    async def _link(self, guest: Guest, patience: float) -> Link:
        """A connection; a coordinator or an agent that is being restarted is waited for, so many seconds."""
        end = asyncio.get_running_loop().time() + patience
        while True:
            link = Link(self._squash.client, self._attachment.name, guest)
            try:
                await link.open()
            except SquashError as error:
                if error.reason not in AWAY or asyncio.get_running_loop().time() > end:
                    raise
                await asyncio.sleep(PAUSE)
            else:
                return link

    async def _read_on(self, client: DapClient) -> None:
        await client.run()
        self._session.lost()

    async def _begin(self, console: Console, client: DapClient, *, configured: bool, again: bool) -> None:
        await self._session.attach(client)
        if again:
            if configured:
                await self._session.configured()
            self._screen.hint("connected again; breakpoints are set as before")
            return
        self._welcome()
        for line in [*self._first, *(["continue"] if self._options.go else [])]:
            self._screen.echo(console.prompt(), line)
            if await self._do(console, line) or console.over.is_set():
                return

    async def _talk(self, console: Console) -> None:
        """Does what is typed until the process or the connection is over. Raises QuitError and LateError."""
        over_ = spawn(console.over.wait(), "over")
        try:
            while not console.over.is_set():
                line = spawn(console.input.line(console.prompt), "line")
                try:
                    await asyncio.wait({line, over_}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not line.done():
                        line.cancel()
                        await asyncio.wait({line})
                if line.cancelled():
                    return
                text = line.result()
                if text is None:
                    raise QuitError
                await self._do(console, text)
        finally:
            over_.cancel()

    async def _do(self, console: Console, line: str) -> str:
        """A script ends with its first failure: what comes after relies on it. Raises QuitError then."""
        error = await console.run_line(line)
        if error and not console.input.interactive and not self._session.debuggee.over:
            self._status = Exit.REFUSED
            raise QuitError
        return error

    def _welcome(self) -> None:
        status = self._attachment.status
        process = f" in process {status.pid}" if status.pid else ""
        self._screen.hint(f"{status.debugger or 'debugger'}{process}, container {plain(container(self._attachment))}")
        if self._terms.read_only:
            self._screen.hint("this session may look, but change nothing")
        if self._terms.waiting:
            self._screen.hint(f"request {self._terms.waiting} is held; set breakpoints, then `continue`")
        else:
            self._screen.hint("the process runs; set breakpoints, then `continue`; `help` shows what there is")

    def _part(self, *, kill: bool = False) -> None:
        name = self._terms.attachment
        if kill:
            self._screen.hint("the process is told to end")
            return
        self._screen.hint(f"the process runs on; `squashctl delete {name}` takes the debugger out at once")
        if self._terms.waiting and self._session.debuggee.stage is Stage.CONFIGURING:
            self._screen.hint(f"request {self._terms.waiting} is still held; `squashctl release {name}` lets it go")

    async def _explained(self, broken: SquashError) -> SquashError:
        """Why the attachment is over, if that is why the connection broke."""
        try:
            async with asyncio.timeout(EXPLAINED):
                return await over(self._squash.client, self._attachment.name)
        except TimeoutError:
            return broken


async def _see_through(work: Coroutine[Any, Any, T]) -> T:
    """What `work` gives; it takes its course also when we are told to stop meanwhile."""
    task = spawn(work, "parting")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _waiting(attachment: DebugAttachment) -> str:
    """The request that is held until breakpoints are set."""
    spec, status = attachment.spec, attachment.status
    if not spec.held or spec.hold_until is not HoldUntil.READY or status.state.final or status.outcome:
        return ""
    return one_line(f"{spec.held.method or 'a request'} {spec.held.path or ''}".strip(), 200)

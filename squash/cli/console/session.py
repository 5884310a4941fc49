"""A session with a debug server: what was agreed with it, and what it has told."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from squash.cli.console import messages as m
from squash.cli.console.breakpoints import FUNCTIONS, Breakpoint, Breakpoints
from squash.cli.console.dap_client import DapClient, LostError, RefusedError
from squash.cli.console.debuggee import Debuggee, Stage
from squash.cli.console.places import Wanted
from squash.cli.console.source import lines, read_here
from squash.tasks import spawn

T = TypeVar("T")
Patience = Callable[["asyncio.Future[Any]", str], Awaitable[None]]
"""Waits for an answer; may give up by an exception of its own. The text says which request it answers."""
Say = Callable[[str], None]
PARTING = 5.0
"""Seconds for the debug server to say that it has let go."""
FRAMES = 500
"""Frames of a stack that are fetched; a deeper one is a recursion, of which these show enough."""
THREADS = 32
"""Threads that are asked where they are, to learn which sources there are."""
_QUIET = ("telemetry",)


async def _wait(answer: "asyncio.Future[Any]", _command: str) -> None:
    await asyncio.wait({answer})


class Session:
    """`say` is told, in words, of what the debug server tells by itself."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self.debuggee = Debuggee()
        self.breakpoints = Breakpoints()
        self.capabilities = m.Capabilities()
        self.exceptions: list[str] | None = None
        """Filters of exceptions at which to stop; None while nobody chose."""
        self.patience: Patience = _wait
        self.turns: asyncio.Queue[None] = asyncio.Queue()
        """One for each time that the process came to stand, ended, or was lost."""
        self._client: DapClient | None = None
        self._initialized = asyncio.Event()
        self._attached: asyncio.Future[Any] | None = None
        self._known: set[str] = set()
        self._texts: dict[str, list[str]] = {}
        self._takes: dict[str, Callable[[Any], None]] = {
            "initialized": self._on_initialized,
            "stopped": self._on_stopped,
            "continued": self._on_continued,
            "thread": self._on_thread,
            "output": self._on_output,
            "breakpoint": self._on_breakpoint,
            "capabilities": self._on_capabilities,
            "exited": self._on_exited,
            "terminated": self._on_terminated,
        }

    # -- beginning and end -------------------------------------------------------------------------

    async def attach(self, client: DapClient) -> None:
        """Up to where breakpoints can be set; those that there were are set again. Raises RefusedError, LostError."""
        self._client = client
        self._initialized.clear()
        self._texts.clear()
        who = {"clientID": "squashctl", "clientName": "squashctl console", "adapterID": "squash"}
        how = {"pathFormat": "path", "linesStartAt1": True, "columnsStartAt1": True, "supportsVariableType": True}
        self.capabilities = await self.ask("initialize", m.Capabilities, **who, **how)
        self._attached = client.send("attach", {"justMyCode": False, "redirectOutput": False, "showReturnValue": True})
        ready = spawn(self._initialized.wait(), "initialized")
        try:
            await asyncio.wait({ready, self._attached}, return_when=asyncio.FIRST_COMPLETED)
            if self._attached.done():
                self._attached.result()
            await self.patience(ready, "attach")
        finally:
            ready.cancel()
        for path in sorted(self.breakpoints.paths()):
            await self.set_breakpoints(path)
        if self.exceptions is not None:
            await self.set_exceptions(self.exceptions)

    async def configured(self) -> None:
        """Tells that the breakpoints are set: a held request goes on."""
        if self.exceptions is None and self.capabilities.exception_breakpoint_filters:
            await self.set_exceptions([])
        if self.capabilities.supports_configuration_done_request:
            await self.ask("configurationDone", m.Nothing)
        if self.debuggee.configured():
            self.turns.put_nowait(None)
        if self._attached:
            await self.patience(self._attached, "attach")
            self._attached.result()

    async def leave(self, *, kill: bool = False) -> None:
        """The debugger lets the process run, or ends it; at most `PARTING` seconds. Never raises for a lost server."""
        if not self._client or self._client.lost:
            return
        try:
            async with asyncio.timeout(PARTING):
                answer = self._client.send("disconnect", {"restart": False, "terminateDebuggee": kill})
                await answer
        except (RefusedError, LostError, TimeoutError):
            return

    def lost(self) -> None:
        """There is no connection any more."""
        self.debuggee.lost()
        self.turns.put_nowait(None)

    # -- asking ------------------------------------------------------------------------------------

    async def ask(self, command: str, kind: type[T], /, **arguments: Any) -> T:
        """The answer of the debug server. Raises RefusedError, LostError and what `patience` raises."""
        if not self._client:
            raise LostError("there is no connection yet")
        answer = self._client.send(command, arguments)
        await self.patience(answer, command)
        return self._client.read(command, answer.result(), kind)

    async def set_breakpoints(self, path: str) -> list[Breakpoint]:
        """Tells the debug server of all breakpoints of a file, or on functions; returns what became of them."""
        asked = self.breakpoints.of(path)
        arguments = self.breakpoints.arguments(path)
        if path == FUNCTIONS:
            answer = await self.ask("setFunctionBreakpoints", m.Breakpoints, breakpoints=arguments)
        else:
            where = {"path": path, "name": path.rpartition("/")[2]}
            answer = await self.ask("setBreakpoints", m.Breakpoints, source=where, breakpoints=arguments)
        self.breakpoints.answered(asked, answer.breakpoints or [])
        return [found for each in asked if (found := self.breakpoints.get(each.number))]

    async def add_breakpoint(self, wanted: Wanted, *, temporary: bool = False) -> Breakpoint:
        """Raises RefusedError when the debug server does not take it; then there is none."""
        made = self.breakpoints.add(wanted, temporary=temporary)
        try:
            await self.set_breakpoints(wanted.place.path)
        except RefusedError:
            self.breakpoints.remove(made.number)
            raise
        return self.breakpoints.get(made.number) or made

    async def set_exceptions(self, filters: list[str]) -> None:
        await self.ask("setExceptionBreakpoints", m.Nothing, filters=filters)
        self.exceptions = filters

    async def look(self) -> None:
        """Asks for threads and the frames of the one that is looked at, where they are not known."""
        debuggee = self.debuggee
        debuggee.know((await self.ask("threads", m.Threads)).threads)
        if debuggee.stage is Stage.STOPPED and debuggee.thread is not None and not debuggee.frames:
            stack = await self._stack(debuggee.thread)
            debuggee.stack(stack.stack_frames, stack.total_frames)
            self._learn(stack)

    async def evaluate(self, expression: str, context: str = "repl") -> m.Evaluated:
        frame = self.debuggee.frame
        at = {"frameId": frame.id} if frame else {}
        return await self.ask("evaluate", m.Evaluated, expression=expression, context=context, **at)

    async def variables(self, reference: int) -> list[m.Variable]:
        return (await self.ask("variables", m.Variables, variablesReference=reference)).variables

    async def scopes(self) -> list[m.Scope]:
        frame = self.debuggee.frame
        return (await self.ask("scopes", m.Scopes, frameId=frame.id)).scopes if frame else []

    async def locals(self) -> list[m.Variable]:
        """Of the frame that is looked at: of its first scope, which is the innermost."""
        found = await self.scopes()
        return await self.variables(found[0].variables_reference) if found else []

    async def text(self, source: m.Source) -> list[str]:
        """The lines of a source. Raises RefusedError when neither this machine nor the debug server has it."""
        key = f"{source.source_reference or 0}:{source.shown}"
        if key not in self._texts:
            here = None if source.source_reference else read_here(source.shown)
            self._texts[key] = here if here is not None else await self._fetched(source)
        return self._texts[key]

    async def known(self) -> set[str]:
        """Paths of the sources that the process has loaded, as far as the debug server tells."""
        if not self._known:
            await self._look_around()
        found: set[str] = set()
        with contextlib.suppress(RefusedError):  # what it does not tell is not known
            if self.capabilities.supports_loaded_sources_request:
                sources = (await self.ask("loadedSources", m.LoadedSources)).sources
                found |= {source.path for source in sources if source.path}
            elif self.capabilities.supports_modules_request:
                modules = (await self.ask("modules", m.Modules)).modules
                found |= {module.path for module in modules if module.path}
        self._known |= found
        return self._known

    async def _look_around(self) -> None:
        """Learns sources from where the threads are: some debug servers tell that of a process that runs, too."""
        with contextlib.suppress(RefusedError):
            threads = (await self.ask("threads", m.Threads)).threads
            asked = [self._stack(thread.id) for thread in threads[:THREADS]]
            for stack in await asyncio.gather(*asked, return_exceptions=True):
                if isinstance(stack, m.Stack):
                    self._learn(stack)

    async def _stack(self, thread: int) -> m.Stack:
        return await self.ask("stackTrace", m.Stack, threadId=thread, startFrame=0, levels=FRAMES)

    def _learn(self, stack: m.Stack) -> None:
        sources = (frame.source for frame in stack.stack_frames)
        self._known.update(source.path for source in sources if source and source.path)

    async def _fetched(self, source: m.Source) -> list[str]:
        reference = source.source_reference or 0
        where = {"path": source.path, "sourceReference": reference}
        try:
            answer = await self.ask("source", m.SourceText, source=where, sourceReference=reference)
        except RefusedError as error:
            message = f"the source {source.shown} is neither here nor told by the debug server: {error}"
            raise RefusedError(message) from error
        return lines(answer.content)

    # -- being told --------------------------------------------------------------------------------

    def on_event(self, name: str, body: Any) -> None:
        """Whatever the debug server tells by itself. What cannot be read is passed over, with a word."""
        take = self._takes.get(name)
        try:
            if take:
                take(body)
        except msgspec.ValidationError as error:
            self._say(f"the debug server sent an event {name} that cannot be read: {error}")

    def _on_initialized(self, _body: Any) -> None:
        self._initialized.set()

    def _on_stopped(self, body: Any) -> None:
        event = m.read(body, m.Stopped)
        if self.debuggee.stopped(event):
            self.turns.put_nowait(None)
        elif self.debuggee.early is event:
            self._say("a thread stands at a breakpoint already; `continue` says that all are set, and shows it")
        elif event.thread_id is not None and self.debuggee.stage is Stage.STOPPED:
            self._say(f"thread {event.thread_id} stands too: {event.description or event.reason}")

    def _on_continued(self, body: Any) -> None:
        event = m.read(body, m.Continued)
        self.debuggee.resumed(event.thread_id, event.all_threads_continued)

    def _on_thread(self, body: Any) -> None:
        event = m.read(body, m.ThreadEvent)
        if event.reason == "exited":
            self.debuggee.thread_ended(event.thread_id)
        else:
            self.debuggee.thread_started(event.thread_id)

    def _on_output(self, body: Any) -> None:
        event = m.read(body, m.OutputEvent)
        if event.output and event.category not in _QUIET:
            self._say(event.output.removesuffix("\n"))

    def _on_breakpoint(self, body: Any) -> None:
        event = m.read(body, m.BreakpointEvent)
        if event.reason != "removed":
            self.breakpoints.told(event.breakpoint)

    def _on_capabilities(self, body: Any) -> None:
        news = body.get("capabilities") if isinstance(body, dict) else None
        if isinstance(news, dict):
            self.capabilities = m.read(msgspec.to_builtins(self.capabilities) | news, m.Capabilities)

    def _on_exited(self, body: Any) -> None:
        self.debuggee.exit_code = m.read(body, m.Exited).exit_code

    def _on_terminated(self, _body: Any) -> None:
        if not self.debuggee.over:
            self.debuggee.ended()
            self.turns.put_nowait(None)

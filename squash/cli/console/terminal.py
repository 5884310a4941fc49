"""Commands from a person at a terminal: editing, history, completion, Ctrl-C."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.patch_stdout import patch_stdout

from squash.errors import SquashError
from squash.private import private_directory

Suggest = Callable[[str], AsyncIterator[tuple[int, str]]]
"""For the text before the cursor: how many characters of it to replace, and by what."""


class Terminal:
    interactive = True

    def __init__(self, suggest: Suggest, history: Path | None, hint: Callable[[str], None]) -> None:
        """`history`: the file that keeps what was typed; None keeps nothing."""
        self._hint = hint
        self._interrupted = asyncio.Event()
        self._prompt: PromptSession[str] = PromptSession(
            history=_history(history, hint),
            completer=_Completer(suggest),
            complete_while_typing=False,
            enable_open_in_editor=False,
        )

    async def line(self, prompt: Callable[[], str]) -> str | None:
        """None at Ctrl-D."""
        while True:
            # From here on Ctrl-C is about what the next line begins; while it is typed, it is a key like others.
            self._interrupted.clear()
            try:
                return await self._prompt.prompt_async(prompt, handle_sigint=False)
            except KeyboardInterrupt:
                self._hint("Ctrl-D or `quit` leaves; the process runs on")
            except EOFError:
                return None

    async def ask(self, question: str) -> bool:
        """Yes, unless they say no."""
        session: PromptSession[str] = PromptSession(history=InMemoryHistory())
        try:
            answer = await session.prompt_async(f"{question} [Y/n] ", handle_sigint=False)
        except (KeyboardInterrupt, EOFError):
            return False
        return answer.strip().lower() in ("", "y", "yes")

    async def enough(self, *, resting: bool) -> None:
        """Returns at Ctrl-C, whatever is waited for."""
        await self._interrupted.wait()
        self._interrupted.clear()

    def interrupt(self) -> None:
        """Ctrl-C, where no line is being typed."""
        self._interrupted.set()

    def above(self) -> AbstractContextManager[None]:
        """Within it, what is written stands above the line that is being typed."""
        return patch_stdout(raw=True)


class _Completer(Completer):
    def __init__(self, suggest: Suggest) -> None:
        self._suggest = suggest

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        return ()

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        async for replaced, text in self._suggest(document.text_before_cursor):
            yield Completion(text, start_position=-replaced)


class _Discreet(FileHistory):
    """Keeps no line that begins with a space, as shells can be told to."""

    def store_string(self, string: str) -> None:
        if not string.startswith(" "):
            super().store_string(string)


def _history(path: Path | None, hint: Callable[[str], None]) -> History:
    if path is None:
        return InMemoryHistory()
    try:
        private_directory(path.parent)
        # Nobody else is to read what was typed, whatever the umask.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)) as file:
            os.fchmod(file.fileno(), 0o600)
    except (OSError, SquashError) as error:
        hint(f"no history: {error}")
        return InMemoryHistory()
    return _Discreet(str(path))

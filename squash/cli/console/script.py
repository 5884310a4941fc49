"""Commands from a pipe or a file, where nobody types."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable

from squash.cli.console.console import LateError, QuitError


class Script:
    """Lines of standard input. `timeout` in seconds for whatever a command waits for; 0: no time at all."""

    interactive = False

    def __init__(self, timeout: float, echo: Callable[[str, str], None]) -> None:
        self._timeout = timeout
        self._echo = echo
        self._lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._next: list[str | None] = []
        """What was read ahead: one line at most."""
        loop = asyncio.get_running_loop()
        # A thread, because files cannot be waited for as sockets can.
        threading.Thread(target=self._read, args=(loop,), name="stdin", daemon=True).start()

    async def line(self, prompt: Callable[[], str]) -> str | None:
        """None when there are no more. An empty line does nothing here, and neither does a comment (`# …`)."""
        while True:
            text = self._next.pop() if self._next else await self._lines.get()
            if text is None:
                return None
            if text.strip() and not text.lstrip().startswith("#"):
                self._echo(prompt(), text)
                return text

    async def enough(self, *, resting: bool) -> None:
        """Raises LateError after the time to wait; `resting`: QuitError as soon as nobody has anything more to say."""
        try:
            async with asyncio.timeout(self._timeout):
                if resting:
                    await self._end()
                else:
                    await asyncio.Event().wait()
        except TimeoutError:
            raise LateError(f"nothing happened for {self._timeout:g} s") from None
        raise QuitError

    async def _end(self) -> None:
        """Returns when there are no more lines."""
        while not self._next:
            text = await self._lines.get()
            if text is None or (text.strip() and not text.lstrip().startswith("#")):
                self._next.append(text)
        if self._next[0] is not None:
            await asyncio.Event().wait()

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        # Not by sys.stdin: at the end of the program its lock would still be held here.
        rest = b""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            while data := _some(sys.stdin.fileno()):
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    loop.call_soon_threadsafe(self._lines.put_nowait, line.decode(errors="replace"))
            if rest:
                loop.call_soon_threadsafe(self._lines.put_nowait, rest.decode(errors="replace"))
            loop.call_soon_threadsafe(self._lines.put_nowait, None)


def _some(number: int) -> bytes:
    """Empty at the end, and when it cannot be read."""
    try:
        return os.read(number, 65_536)
    except OSError:
        return b""

"""One connection to a debug server: requests with their answers, and events in the order in which they come."""

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from squash import dap
from squash.cli.console.messages import read

T = TypeVar("T")
Json = dict[str, Any]
_CHUNK = 65_536


class RefusedError(Exception):
    """The debug server refused a request; the message is its own."""


class LostError(Exception):
    """There is no connection any more; the message says why."""


class DapClient:
    """`on_event` gets name and body of each event, and must not block. `run` reads until the end."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, on_event: Callable[[str, Any], None]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[Any]] = {}
        self.lost = ""
        """Why there is no connection any more; empty while there is one."""

    async def run(self) -> str:
        """Returns why the connection is over; whoever waits for an answer is told, too."""
        lines = dap.Reader()
        lost = "cancelled"
        try:
            while data := await self._reader.read(_CHUNK):
                for raw in lines.feed(data):
                    self._take(dap.decode(raw))
            lost = "the debug server closed the connection"
        except OSError as error:
            lost = error.strerror or str(error)
        except dap.ViolationError as error:
            lost = f"the debug server does not speak the Debug Adapter Protocol: {error}"
        finally:
            self._end(lost)
        return lost

    def send(self, command: str, arguments: Json) -> "asyncio.Future[Any]":
        """The body of the answer, to come. Raises LostError at once when there is no connection."""
        if self.lost:
            raise LostError(self.lost)
        number = next(self._numbers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_seen)
        self._open[number] = answer
        self._writer.write(dap.message(seq=number, type="request", command=command, arguments=arguments))
        return answer

    async def ask(self, command: str, kind: type[T], /, **arguments: Any) -> T:
        """Sends a request and waits for its answer. Raises RefusedError and LostError."""
        return self.read(command, await self.send(command, arguments), kind)

    def read(self, command: str, body: Any, kind: type[T]) -> T:
        """Raises RefusedError when the answer cannot be read."""
        try:
            return read(body, kind)
        except msgspec.ValidationError as error:
            raise RefusedError(f"the debug server's answer to {command} cannot be read: {error}") from error

    def _take(self, message: Json) -> None:
        kind = message.get("type")
        if kind == "event":
            self._on_event(str(message.get("event")), message.get("body"))
        elif kind == "response":
            answer = self._open.pop(_number(message.get("request_seq")), None)
            if answer is None or answer.done():
                return  # nobody asked, or nobody waits any more
            if message.get("success"):
                answer.set_result(message.get("body"))
            else:
                answer.set_exception(RefusedError(_why(message)))
        elif kind == "request":
            self._decline(message)

    def _decline(self, message: Json) -> None:
        """A debug server may ask us to start terminals and the like; we only attach."""
        command = str(message.get("command"))
        fields = {"seq": next(self._numbers), "type": "response", "request_seq": _number(message.get("seq"))}
        self._writer.write(dap.message(**fields, command=command, success=False, message="not supported"))

    def _end(self, why: str) -> None:
        self.lost = why
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(LostError(why))
        self._open.clear()
        self._writer.close()


def _seen(answer: "asyncio.Future[Any]") -> None:
    """An answer that nobody waits for any more may be an error without a word."""
    if not answer.cancelled():
        answer.exception()


def _number(value: object) -> int:
    return value if isinstance(value, int) else -1


def _why(message: Json) -> str:
    """The server's own words: of the error's format with its variables, if there is one."""
    body = message.get("body")
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, dict) and isinstance(error.get("format"), str):
        text: str = error["format"]
        values = error.get("variables")
        for name, value in values.items() if isinstance(values, dict) else ():
            text = text.replace("{" + str(name) + "}", str(value))
        return text
    return str(message.get("message") or f"{message.get('command')} was refused")

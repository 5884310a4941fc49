"""Requests as a person would send them with curl, in the background so that they can be held."""

import http.client
import json
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from squash.result import HEADER, MARK, Result, parse


@dataclass(frozen=True)
class Answer:
    """`seconds` from sending the request until the whole answer was there, which was at `received` (unix seconds)."""

    status: int
    body: Any
    result: Result | None
    """From `x-squash-result`: what became of a marked request."""
    seconds: float
    received: float


class Request:
    """Sent when it is made; `answer` waits for it."""

    def __init__(self, url: str, *, marked: bool = False) -> None:
        self.url = url
        self.marked = marked
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        self._begun = time.monotonic()
        self._connection.request("GET", f"{parts.path}?{parts.query}", headers={MARK: "1"} if marked else {})
        self._answer: Answer | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    @property
    def curl(self) -> str:
        """What to type to send the same."""
        return f"curl -i {f'-H {MARK}:1 ' if self.marked else ''}'{self.url}'"

    @property
    def answered(self) -> bool:
        return not self._thread.is_alive()

    def answer(self, limit: float = 30.0) -> Answer:
        """Raises TimeoutError after `limit` seconds, OSError when the connection broke."""
        self._thread.join(limit)
        if self._error:
            raise self._error
        if self._answer is None:
            raise TimeoutError(f"no answer within {limit:g} s: {self.url}")
        return self._answer

    def hang_up(self) -> None:
        """Closes the connection, whatever comes."""
        if self._connection.sock:
            self._connection.sock.shutdown(2)
        self._thread.join()

    def _receive(self) -> None:
        try:
            response = self._connection.getresponse()
            body = response.read()
            told = response.getheader(HEADER)
            seconds = time.monotonic() - self._begun
            result = parse(told) if told else None
            self._answer = Answer(response.status, json.loads(body), result, seconds, time.time())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._error = error
        finally:
            self._connection.close()


def get(url: str, *, marked: bool = False) -> Answer:
    """A request and its answer."""
    return Request(url, marked=marked).answer()

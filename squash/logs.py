"""Structured logs: one event a line, with the names of what it is about as fields."""

import json
import logging
import sys
import time
from typing import Any


class Log:
    """`log.info("let go", attachment=name, outcome=outcome)`; `bind` gives a logger that adds fields to each line."""

    def __init__(self, name: str, **fields: Any) -> None:
        self._logger = logging.getLogger(f"squash.{name}")
        self._fields = fields

    def bind(self, **fields: Any) -> "Log":
        child = Log.__new__(Log)
        child._logger = self._logger
        child._fields = self._fields | fields
        return child

    def debug(self, event: str, **fields: Any) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, *, exc: BaseException | None = None, **fields: Any) -> None:
        self._log(logging.ERROR, event, fields, exc)

    def _log(self, level: int, event: str, fields: dict[str, Any], exc: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": self._fields | fields}, exc_info=exc)


class _Formatter(logging.Formatter):
    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        given: dict[str, Any] = getattr(record, "fields", {})
        fields = {key: value for key, value in given.items() if value is not None}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        event = record.getMessage()
        logger = record.name.removeprefix("squash.")
        if self._as_json:
            line = {"time": stamp, "level": record.levelname.lower(), "logger": logger, "event": event}
            return json.dumps(line | fields, default=str)
        pairs = "".join(f" {key}={_quoted(value)}" for key, value in fields.items())
        return f"{stamp} {record.levelname:<7} {logger}: {event}{pairs}"


def _quoted(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    plain = text.isprintable() and not any(c in text for c in ' "=')
    return text if plain and text else json.dumps(text)


def setup(level: str, form: str) -> None:
    """Sends the logs of this process to stderr; `form` is `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(form == "json"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("httpx", "httpcore", "uvicorn.access", "uvicorn.error", "websockets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)

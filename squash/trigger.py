"""Which request sets off which trigger: the sidecar decides it before it asks, the coordinator when it matches."""

from collections.abc import Collection
from typing import Protocol

from squash.model import Failure, RequestSpec, Trigger

SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that may be sent twice without asking (RFC 9110 section 9.2.1; CONNECT and TRACE are not for services)."""
SLOW = 1.0
"""Seconds from which an answer counts as slow unless a debug request says otherwise."""


class Terms(Protocol):
    """What a debug request says of the requests that it is for."""

    @property
    def trigger(self) -> Trigger | None: ...
    @property
    def statuses(self) -> Collection[int] | None: ...
    @property
    def threshold(self) -> float | None: ...
    @property
    def methods(self) -> Collection[str] | None: ...
    @property
    def path(self) -> str | None: ...


def misfit(terms: Terms, method: str, path: str, failure: Failure) -> str | None:
    """Why an answer does not set off the trigger: `method`, `path`, `status` or `duration`; None when it does."""
    if method not in (terms.methods or SAFE):
        return "method"
    if not path_fits(terms.path, path):
        return "path"
    if terms.trigger is Trigger.LATENCY:
        return None if (failure.duration or 0.0) >= (terms.threshold or SLOW) else "duration"
    status = failure.status or 0
    fits = status in terms.statuses if terms.statuses else 500 <= status <= 599
    return None if fits else "status"


def path_fits(pattern: str | None, path: str) -> bool:
    """Whether a path (its query does not count) is as the pattern says; no pattern: any path is.

    `*` stands for any characters, also none and also `/`. In time proportional to both lengths, because patterns
    come from one stranger and paths from another.
    """
    path = path.partition("?")[0]
    if pattern is None:
        return True
    first, *others = pattern.split("*")
    if not others:
        return path == pattern
    last = others.pop()
    if len(path) < len(first) + len(last) or not (path.startswith(first) and path.endswith(last)):
        return False
    at, end = len(first), len(path) - len(last)
    for part in others:
        found = path.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def problem(spec: RequestSpec) -> str | None:
    """What is wrong with the terms of a debug request, in words; None when they go together."""
    trigger = spec.trigger or Trigger.MARK
    given = {"statuses": spec.statuses, "threshold": spec.threshold, "methods": spec.methods, "path": spec.path}
    allowed = {
        Trigger.MARK: set[str](),
        Trigger.FAILURE: {"statuses", "methods", "path"},
        Trigger.LATENCY: {"threshold", "methods", "path"},
    }[trigger]
    for name, value in given.items():
        if value is not None and name not in allowed:
            fitting = " or ".join(f"`{other}`" for other in _triggers_with(name))
            return f"spec.{name} does not go with the trigger `{trigger}`, only with {fitting}"
    return None


def _triggers_with(field: str) -> list[str]:
    return {"statuses": ["5xx"], "threshold": ["latency"]}.get(field, ["5xx", "latency"])

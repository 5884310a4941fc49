"""Asking a person, and only what cannot be known: one that fits is taken, several are a question or an error."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from squash.cli.describe import place_name
from squash.errors import SettingError, SquashError
from squash.model import Candidate, Container
from squash.reasons import Reason

T = TypeVar("T")
_SHOWN = 20


class Chooser:
    """`asks`: there is somebody at a terminal who may be asked."""

    def __init__(self, asks: bool) -> None:
        self.asks = asks and sys.stdin.isatty() and sys.stderr.isatty()

    def one(self, what: str, flag: str, options: Mapping[str, T]) -> T:
        """The one of the options that is meant; they are shown by their keys. `flag` says how to name one.

        Raises SettingError when there are several and nobody to ask.
        """
        labels = list(options)
        if len(labels) == 1:
            return options[labels[0]]
        if not self.asks:
            more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
            raise SettingError(f"several {what} could be meant: {', '.join(labels[:_SHOWN])}{more}; name one: {flag}")
        return options[labels[_answer(what, labels)]]


def _answer(what: str, labels: Sequence[str]) -> int:
    for number, label in enumerate(labels, 1):
        sys.stderr.write(f"{number:4}  {label}\n")
    while True:
        sys.stderr.write(f"Which of these {what}? [1-{len(labels)}] ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise KeyboardInterrupt
        text = line.strip()
        if text.isascii() and text.isdigit() and 1 <= int(text) <= len(labels):
            return int(text) - 1


def image(chooser: Chooser, containers: Sequence[Container]) -> str:
    """An image of those that run. Raises SquashError when nothing runs."""
    own = _own(containers)
    if not own:
        raise SquashError(Reason.CONTAINER_NOT_FOUND, "no container runs that could be debugged")
    return chooser.one("images", "squashctl debug image IMAGE", {name: name for name in sorted({c.image for c in own})})


def container(
    chooser: Chooser, containers: Sequence[Container], pod: str | None, namespace: str | None, name: str | None
) -> dict[str, Any]:
    """The `spec.attachment` of the container that is meant; mesh proxies only when named.

    Of one that is not in the list it is what was typed, so that the coordinator says what is wrong.
    """
    typed = {key: value for key, value in (("pod", pod), ("namespace", namespace), ("container", name)) if value}
    found = [each for each in containers if _fits(each.attachment, pod, namespace, name)]
    found = found if name else _own(found) or found
    if not found:
        if typed:
            return typed
        raise SquashError(Reason.CONTAINER_NOT_FOUND, "no container runs that could be debugged")
    options = {f"{place_name(each.attachment)} ({each.image})": each.attachment for each in found}
    return chooser.one("containers", "squashctl debug container POD -n NAMESPACE -c CONTAINER", options)


def process(chooser: Chooser, candidates: Sequence[Candidate]) -> int:
    """The pid of the process that is meant."""
    options = {f"{each.pid} {each.name} ({each.debugger})": each.pid for each in candidates}
    return chooser.one("processes", "squashctl debug container --pid PID", options)


def _own(containers: Sequence[Container]) -> list[Container]:
    return [each for each in containers if not each.mesh_proxy]


def _fits(attachment: Mapping[str, Any], pod: str | None, namespace: str | None, name: str | None) -> bool:
    # Where there are no pods, a container's own name is what a person types.
    called = (attachment.get("pod") or attachment.get("container"), attachment.get("id"))
    return (
        (not pod or pod in called)
        and (not namespace or attachment.get("namespace") == namespace)
        and (not name or attachment.get("container") == name)
    )

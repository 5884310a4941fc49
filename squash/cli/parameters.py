"""Arguments and flags that several commands share."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from squash.errors import SquashError

if TYPE_CHECKING:
    from squash.credentials import Credentials

_DURATION = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)(?:s|\Z))?"
    r"(?:(\d+(?:\.\d+)?)ms)?",
    re.ASCII,
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_COMPLETION = 1.0
"""Seconds that the shell's completion may take to ask the coordinator."""


def duration(text: str) -> float:
    """Seconds from `90`, `90s`, `100ms`, `30m`, `1.5h`, `1h30m` or `30d`. Raises typer.BadParameter."""
    match = _DURATION.fullmatch(text)
    if not text or not match:
        raise typer.BadParameter(f"{text!r} is no duration, like 90s, 100ms, 30m, 1h30m or 30d")
    days, hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def whole_place(pod: str, namespace: str | None, container: str | None) -> tuple[str, str | None, str | None]:
    """Pod, namespace and container from what was typed: the pod may stand with the others, as lists show a container.

    That is NAMESPACE/POD or NAMESPACE/POD/CONTAINER; the name of no pod has a slash. Raises typer.BadParameter when
    that cannot be, or a flag says another.
    """
    if "/" not in pod:
        return pod, namespace, container
    parts = pod.split("/")
    if len(parts) > 3 or not all(parts):
        raise typer.BadParameter(f"{pod!r} is no pod: expected POD, NAMESPACE/POD or NAMESPACE/POD/CONTAINER")
    for flag, given, said in zip(("--namespace", "--container"), (namespace, container), parts[::2], strict=False):
        if given and given != said:
            raise typer.BadParameter(f"{pod!r} and {flag} {given} cannot both be: name one of them")
    return parts[1], parts[0], parts[2] if len(parts) == 3 else container


def named(what: str) -> Callable[[str], str]:
    """A parser of names of that kind, which come out as given. It raises typer.BadParameter for what can be none.

    What was left empty, such as by a variable of a script that is not set, must not count as not given.
    """

    def name(text: str) -> str:
        if not text.strip():
            raise typer.BadParameter(f"{text!r} is no {what}")
        if _CONTROL.search(text):
            raise typer.BadParameter(f"{text!r} is no {what}: control characters are in it")
        return text

    return name


def age(seconds: float) -> str:
    """`42s`, `7m`, `3h`, `2d`: the largest unit of which there are two, or seconds."""
    seconds = max(0, math.floor(seconds))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def known_ids(incomplete: str) -> Iterator[tuple[str, str]]:
    """For the shell's completion: ids and what they are, as far as the coordinator tells at once."""
    from squash.cli.front import read_settings  # noqa: PLC0415 - only while completing
    from squash.credentials import Credentials  # noqa: PLC0415

    with contextlib.suppress(SquashError):
        settings = read_settings()
        yield from _known(settings.server_url, Credentials.of(settings.server_url, settings), incomplete)


def _known(url: str, credentials: "Credentials", incomplete: str) -> Iterator[tuple[str, str]]:
    from squash.client import Client, list_attachments, list_requests  # noqa: PLC0415

    with Client(url, _COMPLETION, credentials) as client:
        for attachment in client.send(list_attachments()):
            if attachment.name.startswith(incomplete):
                yield attachment.name, f"debug attachment of {attachment.spec.image}, {attachment.status.state}"
        for request in client.send(list_requests()):
            if request.name.startswith(incomplete):
                yield request.name, f"debug request for {request.spec.image}"


Id = Annotated[
    str,
    typer.Argument(
        metavar="ID",
        help="A debug request or debug attachment; the first characters do while only one begins so.",
        autocompletion=known_ids,
        show_default=False,
    ),
]
POD = typer.Argument(
    metavar="POD",
    parser=named("pod"),
    help="The pod, or NAMESPACE/POD as lists show it; of a plain process its SQUASH_POD.",
    show_default=False,
)
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        parser=duration,
        help="Longest wait, like 90s or 5m (env SQUASHCTL_TIMEOUT, default 60s); 0 looks once.",
        show_default=False,
    ),
]

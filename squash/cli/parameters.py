"""Arguments and flags that several commands share."""

import contextlib
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from squash.errors import SquashError

if TYPE_CHECKING:
    from squash.credentials import Credentials

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")
_COMPLETION = 1.0
"""Seconds that the shell's completion may take to ask the coordinator."""


def duration(text: str) -> float:
    """Seconds from `90`, `90s`, `30m`, `1.5h`, `1h30m` or `30d`. Raises typer.BadParameter."""
    match = _DURATION.fullmatch(text)
    if not text or not match:
        raise typer.BadParameter(f"{text!r} is no duration, like 90s, 30m, 1h30m or 30d")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds


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

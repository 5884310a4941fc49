"""The flags of a debug request that waits for a failed or a slow answer, and such a request in words."""

from typing import Annotated

import typer

from squash.cli.parameters import duration
from squash.model import AttachmentSpec, RequestSpec, Trigger
from squash.trigger import SAFE, SLOW

OnTrigger = Annotated[
    Trigger | None,
    typer.Option(
        "--trigger",
        help="What makes a request be held. mark: it bears the mark. 5xx: its answer failed; Envoy sends it once more "
        "into the debugger. latency: one like it was slow. Default: mark.",
        show_default=False,
    ),
]
OfStatus = Annotated[
    str | None,
    typer.Option(
        "--status",
        metavar="CODES",
        help="With --trigger 5xx: the statuses, like 500,503. Default: all from 500 to 599.",
        show_default=False,
    ),
]
OfMethod = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="METHODS",
        help="With a trigger: the methods, like GET,POST; name those that may be sent twice. "
        f"Default: {', '.join(SAFE)}.",
        show_default=False,
    ),
]
OfPath = Annotated[
    str | None,
    typer.Option(
        "--path",
        metavar="PATTERN",
        help="With a trigger: the path, like '/cart/*' (quote it); * stands for any characters.",
        show_default=False,
    ),
]
OverThreshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        metavar="DURATION",
        parser=duration,
        help=f"With --trigger latency: how long an answer takes that is slow, from 0.1s on. Default: {SLOW:g}s.",
        show_default=False,
    ),
]


def numbers(text: str | None) -> list[int] | None:
    """`500,503`. Raises typer.BadParameter."""
    if text is None:
        return None
    parts = _parts(text, "--status")
    for part in parts:
        if not (part.isascii() and part.isdigit() and len(part) == 3 and part[0] == "5"):
            raise typer.BadParameter(f"{part!r} is no status from 500 to 599", param_hint="--status")
    return [int(part) for part in parts]


def names(text: str | None) -> list[str] | None:
    """`GET,POST`, in whatever case. Raises typer.BadParameter."""
    if text is None:
        return None
    parts = [part.upper() for part in _parts(text, "--method")]
    for part in parts:
        if not (part.isascii() and part.isalpha() and len(part) <= 32):
            raise typer.BadParameter(f"{part!r} is no method, like GET or POST", param_hint="--method")
    return parts


def pattern(text: str | None) -> str | None:
    """Raises typer.BadParameter."""
    if text is not None and not text.startswith(("/", "*")):
        raise typer.BadParameter(f"{text!r} is no pattern of a path: it begins with / or *", param_hint="--path")
    return text


def waits_for(spec: RequestSpec) -> str:
    """What the debug request waits for, in words."""
    if spec.trigger in (None, Trigger.MARK):
        return f"the next marked request that reaches image {spec.image}"
    which = f"{' or '.join(spec.methods or SAFE)} {spec.path or 'any path'}"
    if spec.trigger is Trigger.LATENCY:
        return f"the next {which} of image {spec.image} after one that took {spec.threshold or SLOW:g} s or longer"
    statuses = " or ".join(map(str, spec.statuses)) if spec.statuses else "5xx"
    return f"the next {which} of image {spec.image} that is answered {statuses}"


def set_off(spec: AttachmentSpec) -> str | None:
    """The answer that set it off, in words; None when the mark did."""
    if spec.failure is None:
        return None
    headers = "".join(f"; {name}: {value}" for name, value in (spec.failure.headers or {}).items())
    return f"an answer {spec.failure.status or '?'} after {spec.failure.duration or 0.0:.3f} s{headers}"


def _parts(text: str, flag: str) -> list[str]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise typer.BadParameter(f"{text!r} names nothing", param_hint=flag)
    return parts

"""The flags of a debug request that waits for a failed or a slow answer, and such a request in words."""

from typing import Annotated, Any

import msgspec
import typer

from squash.cli.parameters import duration
from squash.model import AttachmentSpec, RequestSpec, Trigger
from squash.trigger import SAFE, SLOW, problem
from squash.unfit import in_words

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
    list[int] | None,
    typer.Option(
        "--status",
        metavar="CODE",
        help="With --trigger 5xx: this status alone, like 503; may repeat. Default: all from 500 to 599.",
        show_default=False,
    ),
]
OfMethod = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help="With a trigger: requests of this method, like POST; may repeat. Name those that may be sent twice. "
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


def terms(**given: Any) -> RequestSpec:
    """A debug request's spec; None and empty lists count as not given. Raises typer.BadParameter."""
    said = {name: value for name, value in given.items() if value not in (None, [])}
    if methods := said.get("methods"):
        said["methods"] = [each.upper() for each in methods]
    try:
        spec = msgspec.convert(said, RequestSpec)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(f"no such debug request can be made: {in_words(error)}") from error
    if wrong := problem(spec):
        raise typer.BadParameter(wrong.replace("spec.", ""))
    return spec


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

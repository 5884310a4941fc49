"""`squashctl debug-request` and `debug-container`: the two ways to ask for a debugger; `wait` follows either."""

from typing import TYPE_CHECKING, Annotated

import typer

from squash.cli.front import Config, Front, Json, Server, front
from squash.cli.parameters import POD, Id, Timeout, duration, named, whole_place
from squash.cli.triggers import OfMethod, OfPath, OfStatus, OnTrigger, OverThreshold, terms
from squash.model import AttachmentSpec, DebugAttachment, DebugRequest, HoldUntil

if TYPE_CHECKING:
    from squash.cli.ids import Found

_GOALS = ("matched", "listening", "attached")
_ProcessName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=named("process"),
        help="The process to debug when the container runs several: its executable or script.",
        show_default=False,
    ),
]
_Wait = Annotated[
    bool, typer.Option("--wait", help="Stay, show each step and what is awaited, and end when the request goes on.")
]


def debug_request(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", parser=named("image"), help="The image, as the container names it.")
    ],
    debugger: Annotated[
        str,
        typer.Argument(
            metavar="DEBUGGER", help="debugpy, gdb, …; left out, the agent takes what suits.", show_default=False
        ),
    ] = "",
    process_name: _ProcessName = None,
    hold_until: Annotated[
        HoldUntil,
        typer.Option(
            help="When the held request goes on. ready: your client is connected and its breakpoints are set. "
            "attached: as soon as the debugger is in the process.",
        ),
    ] = HoldUntil.READY,
    ttl: Annotated[
        float | None,
        typer.Option(
            metavar="DURATION",
            parser=duration,
            help="How long to wait for a match, like 30m; the coordinator's default is an hour.",
            show_default=False,
        ),
    ] = None,
    trigger: OnTrigger = None,
    status: OfStatus = None,
    method: OfMethod = None,
    path: OfPath = None,
    threshold: OverThreshold = None,
    wait: _Wait = False,
    timeout: Timeout = None,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Ask for a debugger on the next marked request that reaches an image.

    Then send a request with the header `x-squash-debug`. It is held at Envoy until your client is connected and its
    breakpoints are set (`squashctl connect` and `console` connect one), or until you say `squashctl ready`; everybody
    else's requests pass. In a script that has no client take `--hold-until attached`.

    With --trigger no mark is needed: squashctl debug-request shop/cart --trigger 5xx --status 503 --path '/cart/*'
    """
    with front(server, config, as_json, timeout) as squash:
        from squash.cli.having import check_debugger  # noqa: PLC0415 - slow to import
        from squash.cli.person import person  # noqa: PLC0415
        from squash.client import create_request  # noqa: PLC0415

        spec = terms(
            image=image,
            debugger=debugger,
            process_name=process_name,
            hold_until=hold_until,
            ttl=ttl,
            owner=person(),
            trigger=trigger,
            statuses=status,
            methods=method,
            path=path,
            threshold=threshold,
        )
        check_debugger(squash, debugger, f"the debugger is to be {debugger!r}")
        made = squash.client.send(create_request(DebugRequest(spec=spec)))
        _show(squash, made, "attached" if wait else None)


def debug_container(
    pod: Annotated[str, POD],
    namespace: Annotated[
        str | None,
        typer.Option(
            "--namespace",
            "-n",
            metavar="NAME",
            parser=named("namespace"),
            help="The pod's namespace.",
            show_default=False,
        ),
    ] = None,
    container: Annotated[
        str | None,
        typer.Option(
            "--container",
            "-c",
            metavar="NAME",
            parser=named("container"),
            help="Which container of several.",
            show_default=False,
        ),
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            metavar="IMAGE",
            parser=named("image"),
            help="Refuse unless the container runs this image.",
            show_default=False,
        ),
    ] = None,
    debugger: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="debugpy, gdb, …; left out, the agent takes what suits.", show_default=False),
    ] = None,
    process_name: _ProcessName = None,
    wait: _Wait = False,
    timeout: Timeout = None,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Attach a debugger to a container now, without a marked request."""
    pod, namespace, container = whole_place(pod, namespace, container)
    with front(server, config, as_json, timeout) as squash:
        from squash.cli.having import check_debugger  # noqa: PLC0415 - slow to import
        from squash.client import create_attachment  # noqa: PLC0415

        named = {"pod": pod, "namespace": namespace, "container": container}
        spec = AttachmentSpec(
            attachment={key: value for key, value in named.items() if value},
            image=image,
            debugger=debugger,
            process_name=process_name,
        )
        check_debugger(squash, debugger, f"the debugger is to be {debugger!r}")
        made = squash.client.send(create_attachment(DebugAttachment(spec=spec)))
        _show(squash, made, "attached" if wait else None)


def wait(
    id: Id,
    goal: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="|".join(_GOALS),
            help="matched: a marked request has come. listening: a client can connect. "
            "attached: the held request goes on.",
        ),
    ] = "attached",
    timeout: Timeout = None,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Wait for a debug request to be matched and its debugger to be attached.

    Each step is shown as it comes; `listening` says where to connect. Do that at once: the request goes on when your
    breakpoints are set. In a script take `--for listening`.
    """
    if goal not in _GOALS:
        raise typer.BadParameter(f"{goal!r} is not one of {', '.join(_GOALS)}", param_hint="--for")
    with front(server, config, as_json, timeout) as squash:
        from squash.cli.ids import find  # noqa: PLC0415 - slow to import

        _show(squash, find(squash.client, id), goal)


def _show(squash: Front, found: "Found", goal: str | None) -> None:
    """Writes the object, after following it to the goal if there is one."""
    from squash.cli.describe import attachment_lines, request_lines  # noqa: PLC0415 - slow to import
    from squash.cli.follow import Follower, Goal  # noqa: PLC0415

    if goal:
        squash.stays.append(f"{found.name} stays; `squashctl delete {found.name}` removes it")
        if isinstance(found, DebugRequest) and not found.status.debug_attachment_ref:
            for line in request_lines(found):
                squash.output.note(line)
        with squash.output.progress() as progress:
            found = Follower(squash.client, squash.settings.timeout, progress).follow(found, Goal(goal))
    if squash.output.as_json:
        squash.output.document(found)
    else:
        squash.output.lines(*(attachment_lines(found) if isinstance(found, DebugAttachment) else request_lines(found)))

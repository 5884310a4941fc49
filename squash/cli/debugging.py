"""`squashctl debug image` and `debug container`: from one command to your own debugger at the right line."""

import secrets
import shlex
import sys
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from msgspec import structs

from squash.cli.connect import address_option, check_listen
from squash.cli.exits import Exit
from squash.cli.front import Config, Front, Json, Server, front
from squash.cli.parameters import POD, duration, named, whole_place
from squash.model import AttachmentSpec, DebugAttachment, DebugRequest, HoldUntil, Metadata, RequestSpec
from squash.options import Address
from squash.result import MARK

if TYPE_CHECKING:
    from squash.cli.choosing import Chooser
    from squash.cli.pursuit import Plan

_ANYWHERE = Address("127.0.0.1", 0)
_LONGEST = 30 * 86_400.0
"""Seconds that a debug request may wait: as long as squashctl stays, for its lease ends it otherwise."""
_PANEL = "What is debugged"
_HOW = "How you connect"


class With(StrEnum):
    """What can be started; `console` is squashctl's own."""

    GDB = "gdb"
    DLV = "dlv"
    JDB = "jdb"
    NODE = "node"
    NVIM = "nvim"
    CODE = "code"
    CONSOLE = "console"


@dataclass(frozen=True)
class _Ways:
    """How the developer wants to connect: the flags that both commands have."""

    start: With | None
    prints: list[str] | None
    listen: Address | None
    mappings: list[Any] | None
    program: str
    timeout: float | None
    read_only: bool
    as_json: bool
    server: str | None
    config: Path | None
    send: str = ""


def _mapping(text: str) -> tuple[str, str]:
    here, equals, there = text.partition("=")
    if not (here and equals and there):
        raise typer.BadParameter(f"{text!r} is no pair of directories, like /home/me/shop=/app")
    return here, there


Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME",
        parser=named("namespace"),
        help="Only in this namespace.",
        show_default=False,
    ),
]
Debugger = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="debugpy, gdb, …; left out, what suits the process best.", show_default=False),
]
ProcessName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        parser=named("process"),
        help="Which process of several: its executable or script.",
        show_default=False,
    ),
]
ReadOnly = Annotated[bool, typer.Option("--read-only", help="Look, but change nothing.")]
AllowTerminate = Annotated[
    bool, typer.Option("--allow-terminate", help="Let the editor's Stop end the process instead of detaching.")
]
Start = Annotated[
    With | None,
    typer.Option("--with", help="Start this debugger when it can connect.", show_default=False, rich_help_panel=_HOW),
]
Console = Annotated[
    bool, typer.Option("--console", help="Debug in this terminal, as with pdb: `--with console`.", rich_help_panel=_HOW)
]
Prints = Annotated[
    list[str] | None,
    typer.Option(
        "--print",
        metavar="EDITOR",
        help="Show the configuration of this editor alone: vscode, nvim, vim, emacs, gdb, pycharm, …; may be repeated.",
        show_default=False,
        rich_help_panel=_HOW,
    ),
]
Listen = Annotated[
    Address | None,
    typer.Option(
        metavar="HOST:PORT",
        parser=address_option,
        help="Where clients connect; default 127.0.0.1 and a free port.",
        show_default=False,
        rich_help_panel=_HOW,
    ),
]
Mappings = Annotated[
    list[Any] | None,
    typer.Option(
        "--map",
        metavar="HERE=THERE",
        parser=_mapping,
        help="A directory of your sources, and what the process calls it; may be repeated.",
        show_default=False,
        rich_help_panel=_HOW,
    ),
]
ProgramFile = Annotated[
    str,
    typer.Option(
        "--program",
        metavar="FILE",
        help="The executable with its symbols, for gdb; left out, that of the process when it is on this machine.",
        show_default=False,
        rich_help_panel=_HOW,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: where several could be meant, list them and end.")]
Patience = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="DURATION",
        parser=duration,
        help="Longest wait until a client can connect, like 5m; default: until Ctrl-C.",
        show_default=False,
    ),
]


def image(
    image: Annotated[
        str | None,
        typer.Argument(
            metavar="IMAGE", parser=named("image"), help="The image, as the container names it.", show_default=False
        ),
    ] = None,
    namespace: Namespace = None,
    debugger: Debugger = None,
    process_name: ProcessName = None,
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="Where you send the request, for the curl.", show_default=False)
    ] = "",
    path: Annotated[
        str, typer.Option("--path", metavar="PATH", help="Its path, when you leave the URL open.", show_default=False)
    ] = "",
    mark: Annotated[
        str, typer.Option("--mark", metavar="VALUE", help=f"Value of the header {MARK}, such as a ticket.")
    ] = "1",
    read_only: ReadOnly = False,
    allow_terminate: AllowTerminate = False,
    start: Start = None,
    console: Console = False,
    prints: Prints = None,
    listen: Listen = None,
    mappings: Mappings = None,
    program: ProgramFile = "",
    yes: Yes = False,
    timeout: Patience = None,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Debug the next marked request that reaches an image.

    Prints the curl that sends one. It is held at Envoy until your debugger is connected and its breakpoints are set,
    then it runs into them. Ctrl-C lets go what is held, takes the debugger out and leaves nothing behind; the process
    runs on. If squashctl is killed, the coordinator does that within half a minute.
    """
    from squash.cli.person import person  # noqa: PLC0415 - slow to import

    with front(server, config, as_json) as squash:
        from squash.cli import choosing  # noqa: PLC0415
        from squash.cli.pursuit import LEASE  # noqa: PLC0415
        from squash.client import list_containers  # noqa: PLC0415

        chooser = _chooser(yes, as_json)
        _check_start(squash, start, debugger)
        wanted = image
        if not wanted:
            containers = squash.client.send(list_containers(namespace=namespace))
            wanted = choosing.image(chooser, containers)
        spec = RequestSpec(
            image=wanted,
            debugger=debugger or _implied(start),
            process_name=process_name,
            hold_until=HoldUntil.READY,
            namespace=namespace,
            owner=person(),
            read_only=read_only or None,
            allow_terminate=allow_terminate or None,
            ttl=_LONGEST,
            lease=LEASE,
        )
        wish = DebugRequest(metadata=Metadata(name=secrets.token_hex(16)), spec=spec)
        target = url or f"http://HOST:PORT/{path.lstrip('/')}"
        send = f"curl -i -H {shlex.quote(f'{MARK}: {mark}')} {shlex.quote(target)}"
        ways = _Ways(
            With.CONSOLE if console else start,
            prints,
            listen,
            mappings,
            program,
            timeout,
            read_only,
            as_json,
            server,
            config,
            send,
        )
        _pursue(squash, _plan(wish, ways), chooser)


def container(
    pod: Annotated[str | None, POD] = None,
    namespace: Namespace = None,
    name: Annotated[
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
    debugger: Debugger = None,
    process_name: ProcessName = None,
    pid: Annotated[
        int | None,
        typer.Option(metavar="PID", min=1, help="Which process, by its number on its node.", show_default=False),
    ] = None,
    read_only: ReadOnly = False,
    allow_terminate: AllowTerminate = False,
    start: Start = None,
    console: Console = False,
    prints: Prints = None,
    listen: Listen = None,
    mappings: Mappings = None,
    program: ProgramFile = "",
    yes: Yes = False,
    timeout: Patience = None,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Debug a process of a container now, without a marked request.

    What you do not name is taken when there is only one, and asked for when there are several. Ctrl-C takes the
    debugger out; the process runs on. If squashctl is killed, that is done within half a minute.
    """
    from squash.cli.person import person  # noqa: PLC0415 - slow to import

    if pod:
        pod, namespace, name = whole_place(pod, namespace, name)
    with front(server, config, as_json) as squash:
        from squash.cli import choosing  # noqa: PLC0415
        from squash.cli.pursuit import LEASE  # noqa: PLC0415
        from squash.client import list_containers  # noqa: PLC0415

        chooser = _chooser(yes, as_json)
        containers = squash.client.send(list_containers(namespace=namespace))
        _check_start(squash, start, debugger)
        spec = AttachmentSpec(
            attachment=choosing.container(chooser, containers, pod, namespace, name),
            debugger=debugger or _implied(start) or None,
            process_name=process_name,
            pid=pid,
            only_choice=True,
            lease=LEASE,
            owner=person(),
            read_only=read_only or None,
            allow_terminate=allow_terminate or None,
        )
        wish = DebugAttachment(metadata=Metadata(name=secrets.token_hex(16)), spec=spec)
        ways = _Ways(
            With.CONSOLE if console else start,
            prints,
            listen,
            mappings,
            program,
            timeout,
            read_only,
            as_json,
            server,
            config,
        )
        _pursue(squash, _plan(wish, ways), chooser)


def _chooser(yes: bool, as_json: bool) -> "Chooser":
    from squash.cli.choosing import Chooser  # noqa: PLC0415 - slow to import

    return Chooser(asks=not yes and not as_json)


def _implied(start: With | None) -> str:
    """The debugger that the program to be started cannot do without."""
    from squash.cli.programs import PROGRAMS  # noqa: PLC0415 - slow to import

    return PROGRAMS[start].debugger if start in PROGRAMS else ""


def _check_start(squash: Front, start: With | None, debugger: str | None) -> None:
    """Raises SquashError when what is to be started is not installed here, or no agent has the debugger it takes."""
    from squash.cli.having import check_debugger  # noqa: PLC0415 - slow to import
    from squash.cli.programs import PROGRAMS  # noqa: PLC0415

    program = PROGRAMS.get(start or "")
    if program:
        program.check()
    if debugger:
        check_debugger(squash, debugger, f"the debugger is to be {debugger!r}")
    elif program:
        check_debugger(squash, program.debugger, f"--with {program.name} needs the debugger {program.debugger}")


def _plan(wish: DebugRequest | DebugAttachment, ways: _Ways) -> "Plan":
    """Raises BadParameter for what does not go together."""
    from squash.cli.editors import names  # noqa: PLC0415 - slow to import
    from squash.cli.person import person  # noqa: PLC0415
    from squash.cli.programs import PROGRAMS  # noqa: PLC0415
    from squash.cli.pursuit import Plan  # noqa: PLC0415
    from squash.tunnel import Guest  # noqa: PLC0415

    address = ways.listen or _ANYWHERE
    check_listen(address, allowed=False)
    if ways.start and ways.as_json:
        raise typer.BadParameter("cannot be together with --json: both write to the terminal", param_hint="--with")
    if unknown := [name for name in ways.prints or () if name not in names()]:
        raise typer.BadParameter(f"{unknown[0]!r} is not one of {', '.join(names())}", param_hint="--print")
    if ways.start is With.CONSOLE and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise typer.BadParameter("needs a terminal; in a script take `squashctl console ID`", param_hint="--console")
    return Plan(
        wish,
        address,
        Guest(client=person(), read_only=ways.read_only),
        send=ways.send,
        timeout=ways.timeout,
        start=PROGRAMS.get(ways.start or ""),
        console=_console(ways) if ways.start is With.CONSOLE else (),
        prints=tuple(ways.prints or ()),
        program=ways.program,
        mappings=tuple(ways.mappings or ()),
    )


def _console(ways: _Ways) -> tuple[str, ...]:
    """The console is a squashctl of its own: it gets the terminal, and what it needs to reach the same coordinator."""
    flags = ["--server", ways.server] if ways.server else []
    flags += ["--config", str(ways.config)] if ways.config else []
    flags += ["--read-only"] if ways.read_only else []
    return sys.argv[0], "console", *flags


def _pursue(squash: Front, plan: "Plan", chooser: "Chooser") -> None:
    """Runs it, once more when the agent had to ask which process is meant. Raises typer.Exit, SquashError."""
    import uvloop  # noqa: PLC0415 - slow to import

    from squash.cli import choosing  # noqa: PLC0415
    from squash.cli.pursuit import AmbiguousError, Pursuit  # noqa: PLC0415
    from squash.cli.telling import Telling  # noqa: PLC0415
    from squash.client import delete_attachment  # noqa: PLC0415

    while True:
        telling = Telling(squash.output)
        telling.start()
        try:
            status = uvloop.run(Pursuit(squash.client, plan, telling).run())
        except AmbiguousError as error:
            telling.stop()
            squash.client.send(delete_attachment(plan.wish.name))
            plan = _with_pid(plan, choosing.process(chooser, error.candidates))
        else:
            break
        finally:
            telling.stop()
    if status is not Exit.DONE:
        raise typer.Exit(status)


def _with_pid(plan: "Plan", pid: int) -> "Plan":
    spec = cast(DebugAttachment, plan.wish).spec
    wish = DebugAttachment(metadata=Metadata(name=secrets.token_hex(16)), spec=structs.replace(spec, pid=pid))
    return replace(plan, wish=wish)

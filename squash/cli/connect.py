"""`squashctl connect`: a local end at which any client finds a debug server, wherever that is."""

from typing import Annotated

import typer

from squash.cli.front import Config, Json, Server, front
from squash.cli.parameters import Id, Timeout
from squash.errors import SettingError
from squash.options import Address

_ANYWHERE = Address("127.0.0.1", 0)


def address_option(text: str) -> Address:
    """The value of a flag. Raises typer.BadParameter."""
    try:
        return Address.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} cannot be used: {error}") from error


def connect(
    id: Id,
    listen: Annotated[
        Address | None,
        typer.Option(
            metavar="HOST:PORT",
            parser=address_option,
            help="Where clients connect; default 127.0.0.1 and a free port. Port 0: any free one.",
            show_default=False,
        ),
    ] = None,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Take standard input and output for the client; nothing listens.")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Stop listening when the first client comes, end with it.")] = (
        False
    ),
    takeover: Annotated[
        bool, typer.Option("--takeover", help="When another client holds the session, have it make room.")
    ] = False,
    read_only: Annotated[
        bool,
        typer.Option("--read-only", help="Look, but change nothing: what would change the process is refused."),
    ] = False,
    insecure_listen: Annotated[
        bool,
        typer.Option(
            "--insecure-listen",
            help="Allow an address that other machines reach. Whoever connects there controls the process.",
        ),
    ] = False,
    timeout: Timeout = None,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Connect a debugger's client, here, to a debug server, wherever it runs.

    Waits until the debug server listens, then opens a port on this machine for any client that speaks its protocol,
    and prints what to type. The bytes go through the coordinator. Clients are served one at a time; Ctrl-C ends it
    and leaves the attachment as it is. It ends by itself when the attachment is over.

    An open port of 127.0.0.1 is in reach of every user of this machine, and a debugger can do to a process whatever
    the process can. So connections of other users are refused, as /proc/net/tcp tells them. With `--stdio` there is
    no port at all.
    """
    if stdio and (listen or once or as_json):
        raise typer.BadParameter("takes none of --listen, --once and --json", param_hint="--stdio")
    with front(server, config, as_json, timeout) as squash:
        from squash.cli.follow import Follower, Goal  # noqa: PLC0415 - slow to import
        from squash.cli.ids import find  # noqa: PLC0415
        from squash.cli.person import person  # noqa: PLC0415

        address = listen or _ANYWHERE
        check_listen(address, allowed=insecure_listen)
        found = find(squash.client, id)
        squash.stays.append(f"{found.name} stays; `squashctl delete {found.name}` removes it")
        with squash.output.progress() as progress:
            ready = Follower(squash.client, squash.settings.timeout, progress).follow(found, Goal.LISTENING)
        from squash.cli.serving import serve_port, serve_stdio  # noqa: PLC0415
        from squash.tunnel import Guest  # noqa: PLC0415

        guest = Guest(client=person(), takeover=takeover, read_only=read_only)
        if stdio:
            serve_stdio(squash, ready, guest)
        else:
            serve_port(squash, ready, address, guest, only_one=once)


def check_listen(address: Address, *, allowed: bool) -> None:
    """Raises SettingError for an address that other machines reach, unless that is `allowed`."""
    if not allowed and not address.is_loopback:
        raise SettingError(
            f"--listen {address} would let other machines control the process: "
            "choose an address of 127.0.0.1, or say --insecure-listen"
        )

"""`squashctl ticket …`: signed values of the mark, and the keys behind them."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squash.cli.exits import Exit
from squash.cli.front import Config, Front, Json, Server, front
from squash.cli.parameters import age, duration, named
from squash.errors import SettingError
from squash.reasons import Reason

if TYPE_CHECKING:
    from squash.ticket import Claims, KeySet

app = typer.Typer(
    name="ticket",
    help="Tickets: signed values of `x-squash-debug`, that say who may have which requests held, and until when.",
    no_args_is_help=True,
)


@app.command(
    epilog="Examples:\n\n- `squashctl ticket create --image demo/pricing --for 30m`\n\n"
    '- `curl -H "x-squash-debug: $(squashctl ticket create --image demo/pricing --path-prefix /cart)" http://…`\n\n'
    "- `squashctl ticket create --image demo/pricing --request 5f3c --uses 10 --json`"
)
def create(
    image: Annotated[
        str, typer.Option("--image", metavar="IMAGE", parser=named("image"), help="The image that it is for.")
    ],
    ttl: Annotated[
        float | None,
        typer.Option(
            "--for",
            metavar="DURATION",
            parser=duration,
            help="How long it is valid, like 90s or 2h [default: 30m].",
            show_default=False,
        ),
    ] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Only containers of this namespace.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", metavar="METHOD", help="Only requests of this method; may repeat.")
    ] = None,
    path_prefix: Annotated[
        str | None,
        typer.Option("--path-prefix", metavar="PATH", help="Only requests of this path, and of those below it."),
    ] = None,
    uses: Annotated[int, typer.Option("--uses", metavar="N", help="How many requests may be held with it.")] = 1,
    request: Annotated[
        str | None,
        typer.Option(
            "--request", metavar="ID", help="The only debug request that it is for; without, any that you have made."
        ),
    ] = None,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a ticket, and print it.

    A request that bears it is held for your own debug requests alone. Whoever has it can have requests held: keep it
    out of logs and chats.
    """
    with front(server, config, as_json) as squash:
        from squash.cli.person import person  # noqa: PLC0415 - slow to import

        wish: dict[str, Any] = {"image": image, "namespace": namespace, "path_prefix": path_prefix, "uses": uses}
        wish |= {"methods": [each.upper() for each in method] if method else None, "owner": person()}
        wish |= {"ttl": ttl} if ttl is not None else {}
        wish["request"] = _request(squash, request) if request is not None else None
        _issue(squash, wish)


@app.command(
    epilog="Examples:\n\n- `squashctl ticket show eyJ…`\n\n- `squashctl ticket show - < ticket.txt`\n\n"
    "- `squashctl ticket show eyJ… --keys keys.json --json`"
)
def show(
    value: Annotated[str, typer.Argument(metavar="VALUE", help="The ticket; `-` reads it from standard input.")],
    keys: Annotated[
        Path | None,
        typer.Option("--keys", metavar="FILE", help="Verify with these keys (a JWKS), without the coordinator."),
    ] = None,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show what a ticket is for, and whether it is valid.

    Exit status 1 tells that it is not. How often it was used only the coordinator knows, and is not shown.
    """
    with front(server, config, as_json) as squash:
        from squash.ticket import TicketError, unverified  # noqa: PLC0415 - slow to import

        text = (sys.stdin.read() if value == "-" else value).strip()
        claims = unverified(text)
        try:
            _verify(squash, text, keys)
        except TicketError as error:
            _shown(squash, claims, error.reason, error.message)
            raise typer.Exit(Exit.REFUSED) from error
        _shown(squash, claims)


@app.command("keys", epilog="Examples:\n\n- `squashctl ticket keys`\n\n- `squashctl ticket keys --json > keys.json`")
def list_keys(server: Server = None, config: Config = None, as_json: Json = False) -> None:
    """List the public keys that verify tickets; the first one belongs to new tickets.

    With `--json` they are a JWKS, as a sidecar's setting `ticket_keys` takes it.
    """
    with front(server, config, as_json) as squash:
        from squash.calls import ticket_keys  # noqa: PLC0415 - slow to import

        _keys(squash, squash.client.send(ticket_keys()))


@app.command(epilog="Examples:\n\n- `squashctl ticket rotate`\n\n- `squashctl ticket rotate --revoke`")
def rotate(
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Forget the earlier keys at once, and with them every ticket so far.")
    ] = False,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Sign new tickets with a new key.

    Tickets made before stay valid until they expire. Sidecars learn of the new key with the first ticket of it, and
    within a minute that a key was revoked.
    """
    with front(server, config, as_json) as squash:
        from squash.calls import rotate_ticket_keys  # noqa: PLC0415 - slow to import

        _keys(squash, squash.client.send(rotate_ticket_keys(revoke=revoke)))


def _issue(squash: Front, wish: dict[str, Any]) -> None:
    import msgspec  # noqa: PLC0415 - slow to import

    from squash.calls import create_ticket  # noqa: PLC0415
    from squash.ticket import TicketWish  # noqa: PLC0415
    from squash.unfit import in_words  # noqa: PLC0415

    try:
        asked = msgspec.convert(wish, TicketWish)
    except msgspec.ValidationError as error:
        raise SettingError(f"no such ticket can be made: {in_words(error)}") from error
    issued = squash.client.send(create_ticket(asked))
    if squash.output.as_json:
        squash.output.document(issued)
    else:
        squash.output.lines(issued.ticket)
        left = age(issued.claims.exp - time.time())
        squash.output.note(f"ticket {issued.claims.jti} for {issued.claims.image}, valid for {left}")


def _request(squash: Front, text: str) -> str:
    from squash.cli.ids import find  # noqa: PLC0415 - slow to import
    from squash.model import DebugRequest  # noqa: PLC0415

    found = find(squash.client, text)
    if not isinstance(found, DebugRequest):
        raise SettingError(f"{found.name} is a debug attachment; a ticket is for a debug request")
    return found.name


def _verify(squash: Front, text: str, keys: Path | None) -> None:
    from squash.calls import ticket_keys  # noqa: PLC0415 - slow to import
    from squash.settings import SidecarSettings  # noqa: PLC0415
    from squash.ticket import Rules, Verifier, check, read_keys  # noqa: PLC0415

    if keys is None:
        known = squash.client.send(ticket_keys())
    else:
        try:
            known = read_keys(keys.read_bytes())
        except OSError as error:
            raise SettingError(f"cannot read {str(keys)!r}: {error.strerror}") from error
    claims = Verifier(known).claims(text)
    # Whose name it is issued in is for each sidecar to say.
    check(claims, Rules(claims.iss, SidecarSettings.clock_skew), time.time())


def _shown(squash: Front, claims: "Claims", reason: Reason | None = None, message: str = "") -> None:
    if squash.output.as_json:
        document = {"valid": reason is None, "reason": reason, "message": message or None, "claims": claims}
        squash.output.document(document | {"remedy": reason.remedy if reason else None})
        return
    from squash.ticket import table  # noqa: PLC0415 - slow to import

    said = [f"{name:<14} {text}" for name, text in table(claims).items()]
    left = claims.exp - time.time()
    expiry = f"in {age(left)}" if left > 0 else f"{age(-left)} ago"
    verdict = f"{reason}: {message}; {reason.remedy}" if reason else "valid"
    squash.output.lines(*said, f"{'expires':<14} {expiry}", f"{'verdict':<14} {verdict}")


def _keys(squash: Front, keys: "KeySet") -> None:
    if squash.output.as_json:
        squash.output.document(keys)
    else:
        signs = ["signs new tickets", *["verifies earlier ones"] * (len(keys.keys) - 1)]
        squash.output.lines(*(f"{key.kid}  {what}" for key, what in zip(keys.keys, signs, strict=True)))

"""`squashctl token`: who may call the coordinator, made, listed and taken back by an admin."""

import time
from typing import Annotated

import typer
from msgspec.structs import replace

from squash import calls
from squash.access import Role, Token, TokenWish
from squash.cli.front import Config, Json, Server, front
from squash.cli.output import drawn
from squash.cli.parameters import age, duration

app = typer.Typer(help="Tokens: who may do what. For admins.", no_args_is_help=True)


def create(
    subject: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="SUBJECT",
            help="Who it stands for: a person, an agent, the sidecars of a namespace. Shown as owner and client.",
            show_default=False,
        ),
    ],
    role: Annotated[Role, typer.Option(help="What it may do.")] = Role.DEVELOPER,
    ttl: Annotated[
        float | None,
        typer.Option(
            metavar="DURATION",
            parser=duration,
            help="How long it is good for, at most 365d; default 30d.",
            show_default=False,
        ),
    ] = None,
    node: Annotated[
        str | None, typer.Option(metavar="NAME", help="For an agent: the only node it serves.", show_default=False)
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="For a filter or a developer: the only namespace it is for.", show_default=False
        ),
    ] = None,
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a token, and write its secret, once, to standard output.

    Keep it in a file that only its user can read, and name that in SQUASH_TOKEN_FILE. The coordinator keeps a hash; who
    loses the secret needs another token. Viewers look; developers ask for debuggers and use what is theirs; agents and
    filters do their part and nothing else; admins may do everything.
    """
    with front(server, config, as_json) as squash:
        wish = TokenWish(role=role, subject=subject, node=node, namespace=namespace)
        issued = squash.client.send(calls.create_token(wish if ttl is None else replace(wish, ttl=ttl)))
        if as_json:
            squash.output.document(issued)
        else:
            squash.output.lines(issued.secret)
            until = time.strftime("%Y-%m-%d %H:%M", time.localtime(issued.token.expires))
            squash.output.note(f"token {issued.token.id} of {subject} ({role}), until {until}; it is not shown again")


def list_tokens(server: Server = None, config: Config = None, as_json: Json = False) -> None:
    """List tokens, without their secrets; those that ended, for 30 days more."""
    with front(server, config, as_json) as squash:
        tokens = squash.client.send(calls.list_tokens())
        if as_json:
            squash.output.document(tokens)
        elif tokens:
            now = time.time()
            head = ("ID", "ROLE", "FOR", "SCOPE", "AGE", "STATE")
            squash.output.lines(drawn(head, [_row(token, now) for token in tokens]).rstrip("\n"))
        else:
            squash.output.lines("no tokens")


def revoke(
    id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The token's id; the first characters do while only one begins so."),
    ],
    server: Server = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take a token back, at once: its calls are refused, and what it has open ends."""
    with front(server, config, as_json) as squash:
        names = [token.id for token in squash.client.send(calls.list_tokens()) if token.id.startswith(id)]
        revoked = squash.client.send(calls.revoke_token(names[0] if len(names) == 1 else id))
        if as_json:
            squash.output.document(revoked)
        else:
            squash.output.lines(f"token {revoked.id} of {revoked.subject} ({revoked.role}) is revoked")


def _row(token: Token, now: float) -> tuple[str, ...]:
    scope = [f"{key}={value}" for key in ("node", "namespace") if (value := getattr(token, key))]
    if token.revoked is not None:
        state = "revoked"
    elif token.expires <= now:
        state = "expired"
    else:
        state = f"{age(token.expires - now)} left"
    return token.id, token.role, token.subject, " ".join(scope) or "-", age(now - token.created), state

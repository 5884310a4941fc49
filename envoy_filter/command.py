"""`squashctl envoy …`: Envoy configuration with the filter in it."""

import json
from typing import Annotated, Any, get_type_hints

import typer

from squash.errors import SettingError
from squash.options import convert, rows

from .edge import pieces as edge_pieces
from .envoy import EnvoySettings, auto_snippet, bootstrap, snippet
from .front_end import FilterSettings
from .shield import shield as shield_pieces
from .yaml import dump, plain

app = typer.Typer(name="envoy", help="Envoy configuration with the filter that holds marked requests.")
_TYPES = get_type_hints(EnvoySettings, include_extras=True)
_FILTER = get_type_hints(FilterSettings)
_ROWS = {row.key: row for row in rows(EnvoySettings, "envoy")}


def _option(key: str, metavar: str) -> Any:
    return typer.Option(_ROWS[key].flag, metavar=metavar, help=_help(key), show_default=False)


def _help(key: str) -> str:
    row = _ROWS[key]
    return row.help + (f" [default: {row.stated}]" if row.stated else "")


@app.command()
def config(
    front_end: Annotated[str, _option("front_end", "lua|grpc|http")] = "",
    listen: Annotated[str, _option("listen", "HOST:PORT")] = "",
    upstream: Annotated[str, _option("upstream", "HOST:PORT")] = "",
    upstream_protocol: Annotated[str, _option("upstream_protocol", "http1|http2")] = "",
    sidecar: Annotated[str, _option("sidecar", "HOST:PORT")] = "",
    sidecar_cluster: Annotated[str, _option("sidecar_cluster", "NAME")] = "",
    sidecar_http: Annotated[str, _option("sidecar_http", "HOST:PORT")] = "",
    auto_debug: Annotated[str, _option("auto_debug", "true|false")] = "",
    failure_headers: Annotated[str, _option("failure_headers", "NAMES")] = "",
    sidecar_socket: Annotated[str, _option("sidecar_socket", "PATH")] = "",
    shared: Annotated[bool, typer.Option("--shared", help=_help("shared"))] = False,
    admin: Annotated[str, _option("admin", "HOST:PORT")] = "",
    request_timeout: Annotated[str, _option("request_timeout", "SECONDS")] = "",
    attachment_timeout: Annotated[str, _option("attachment_timeout", "SECONDS")] = "",
    stat_prefix: Annotated[str, _option("stat_prefix", "NAME")] = "",
    only_snippet: Annotated[
        bool, typer.Option("--snippet", help="Only the pieces to paste into a configuration of your own.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON, without comments.")] = False,
) -> None:
    """Print a complete Envoy bootstrap as YAML.

    Example: squashctl envoy config --listen 0.0.0.0:8080 --upstream 127.0.0.1:5000 > envoy.yaml && envoy -c envoy.yaml
    """
    given = {
        "front_end": front_end,
        "listen": listen,
        "upstream": upstream,
        "upstream_protocol": upstream_protocol,
        "sidecar": sidecar,
        "sidecar_cluster": sidecar_cluster,
        "sidecar_http": sidecar_http,
        "auto_debug": auto_debug,
        "failure_headers": failure_headers,
        "sidecar_socket": sidecar_socket,
        "shared": "true" if shared else "",
        "admin": admin,
        "request_timeout": request_timeout,
        "attachment_timeout": attachment_timeout,
        "stat_prefix": stat_prefix,
    }
    try:
        rendered = _rendered({key: value for key, value in given.items() if value}, whole=not only_snippet)
    except SettingError as error:
        typer.echo(f"squashctl: {error.message}", err=True)
        raise typer.Exit(2) from error
    _print(rendered, as_json=as_json)


@app.command("auto-debug")
def auto_debug_pieces(
    front_end: Annotated[str, _option("front_end", "lua|grpc|http")] = "",
    sidecar: Annotated[str, _option("sidecar", "HOST:PORT")] = "",
    sidecar_cluster: Annotated[str, _option("sidecar_cluster", "NAME")] = "",
    sidecar_http: Annotated[str, _option("sidecar_http", "HOST:PORT")] = "",
    failure_headers: Annotated[str, _option("failure_headers", "NAMES")] = "",
    request_timeout: Annotated[str, _option("request_timeout", "SECONDS")] = "",
    attachment_timeout: Annotated[str, _option("attachment_timeout", "SECONDS")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="JSON, without comments.")] = False,
) -> None:
    """Print what debug requests with a trigger need in a configuration of your own.

    It goes beside the pieces of `squashctl envoy config --snippet`, given the same flags. A whole bootstrap has it.

    Example: squashctl envoy auto-debug --sidecar 127.0.0.1:8603 > auto-debug.yaml
    """
    given = {
        "front_end": front_end,
        "sidecar": sidecar,
        "sidecar_cluster": sidecar_cluster,
        "sidecar_http": sidecar_http,
        "failure_headers": failure_headers,
        "request_timeout": request_timeout,
        "attachment_timeout": attachment_timeout,
    }
    try:
        values = _values({key: value for key, value in given.items() if value})
    except SettingError as error:
        typer.echo(f"squashctl: {error.message}", err=True)
        raise typer.Exit(2) from error
    _print(auto_snippet(FilterSettings(**values)), as_json=as_json)


@app.command()
def shield(as_json: Annotated[bool, typer.Option("--json", help="JSON, without comments.")] = False) -> None:
    """Print the filter for Envoys that call others: no timeout and no retry for marked requests.

    Paste it into each Envoy on the way to the one that holds; that one needs nothing more.

    Example: squashctl envoy shield > shield.yaml
    """
    _print(shield_pieces(), as_json=as_json)


@app.command()
def edge(as_json: Annotated[bool, typer.Option("--json", help="JSON, without comments.")] = False) -> None:
    """Print the filter for the Envoy at the edge: it takes the mark off requests from outside.

    Example: squashctl envoy edge > edge.yaml
    """
    _print(edge_pieces(), as_json=as_json)


def _print(rendered: dict[str, Any], *, as_json: bool) -> None:
    typer.echo(json.dumps(plain(rendered), indent=2) if as_json else dump(rendered), nl=as_json)


def _values(given: dict[str, str]) -> dict[str, Any]:
    values = {key: convert(text, _TYPES[key], key, _ROWS[key].flag) for key, text in given.items()}
    ways = [key for key in ("sidecar", "sidecar_socket", "sidecar_cluster") if key in given]
    if len(ways) > 1:
        first, second = ways[:2]
        raise SettingError(
            f"{second} = {given[second]!r} cannot be used together with {first} = {given[first]!r}: give one of them"
        )
    for key in ("upstream", "sidecar", "sidecar_http"):
        if key in values and values[key].port == 0:
            raise SettingError(f"{key} = {given[key]!r} cannot be used: a port to connect to is from 1 to 65535")
    return values


def _rendered(given: dict[str, str], *, whole: bool) -> dict[str, Any]:
    values = _values(given)
    if not whole:
        return snippet(FilterSettings(**{key: value for key, value in values.items() if key in _FILTER}))
    for key in ("listen", "upstream"):
        if key not in values:
            raise SettingError(f"{key} is missing: give {_ROWS[key].flag} HOST:PORT")
    return bootstrap(EnvoySettings(**values))

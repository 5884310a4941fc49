"""Settings by flag, environment and file, in that order of precedence, for each program alike.

A settings class is a frozen dataclass whose fields are made by `setting()`. `load` turns a command
line, the environment and an optional TOML file (`--config`, `SQUASH_CONFIG`; one table a program)
into one; a bad value is refused with the key, where it came from, and what is allowed.
"""

import argparse
import dataclasses
import ipaddress
import os
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, NoReturn, Self, TypeVar, get_args, get_type_hints

import msgspec

from squash import __version__
from squash.errors import SettingError
from squash.expected import expected
from squash.secret import Secret

T = TypeVar("T")
PROGRAMS = ("coordinator", "agent", "sidecar", "squashctl")
"""Those that have settings, as their tables in the file are called."""


class Address(NamedTuple):
    """`host:port`; an IPv6 host stands in brackets. Port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError("expected HOST:PORT, like 127.0.0.1:8602 or [::1]:8602")
        return cls(host, int(port))

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclasses.dataclass(frozen=True)
class Row:
    """One setting as the help and the docs show it."""

    key: str
    flag: str
    """Empty for a secret: whoever lists the processes of a machine sees their arguments."""
    env: str
    default: str
    help: str
    stated: str
    """The default as the docs state it: the same on every machine."""


def setting(
    default: Any = dataclasses.MISSING, help: str = "", *, env: str | None = None, stated: str | None = None
) -> Any:
    """A field of a settings class. `help` gives the meaning, the unit and why that default.

    `stated` describes a default that differs from machine to machine.
    """
    return dataclasses.field(default=default, metadata={"help": help, "env": env, "stated": stated})


def rows(cls: type, program: str) -> Iterator[Row]:
    """The table of a program's settings; `program` is the name without `squash-`, like `agent`."""
    types = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        flag = "" if _inner(types[field.name]) is Secret else "--" + field.name.replace("_", "-")
        default = "" if field.default is dataclasses.MISSING else _show(field.default)
        env = field.metadata["env"] or f"SQUASH_{program}_{field.name}".upper()
        stated = field.metadata["stated"] or default
        yield Row(field.name, flag, env, default, field.metadata["help"], stated)


def load(
    cls: type[T],
    program: str,
    description: str,
    argv: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
) -> T:
    """The settings of `program`. Raises SettingError; `--help` and `--version` exit with 0."""
    switches = frozenset(key for key, wanted in get_type_hints(cls).items() if wanted is bool)
    given = vars(_parser(program, description, list(rows(cls, program)), switches).parse_args(argv))
    path = given.pop("config") or environ.get("SQUASH_CONFIG")
    return settle(cls, program, given, Path(path) if path else None, environ)


def settle(
    cls: type[T],
    program: str,
    given: Mapping[str, Any],
    path: Path | None,
    environ: Mapping[str, str] = os.environ,
) -> T:
    """The settings of `program` from the flags `given` by key (None: not given), the environment and a TOML file.

    Raises SettingError.
    """
    table = list(rows(cls, program))
    from_file = read_file(path, program, {row.key for row in table}) if path else {}
    types = get_type_hints(cls, include_extras=True)
    values: dict[str, Any] = {}
    for row in table:
        if given.get(row.key) is not None:
            raw, source = given[row.key], row.flag
        elif environ.get(row.env):
            raw, source = environ[row.env], row.env
        elif row.key in from_file:
            raw, source = from_file[row.key], str(path)
        elif row.default or _has_default(cls, row.key):
            continue
        else:
            raise SettingError(f"{row.key} is missing: give {' or '.join(filter(None, (row.flag, row.env)))}")
        values[row.key] = convert(raw, types[row.key], row.key, source)
    return cls(**values)


def load_or_exit(cls: type[T], program: str, description: str, argv: Sequence[str] | None = None) -> T:
    """`load` for the `main` of a program: a bad setting is one line on stderr and exit status 2.

    A variable of the environment that seems to be misspelt is a line, too.
    """
    from squash.misspelt import doubts  # noqa: PLC0415 - it knows all settings, which are made with this module

    try:
        settings = load(cls, program, description, argv)
    except SettingError as error:
        die(program, error, 2)
    for line in doubts(os.environ):
        sys.stderr.write(f"squash-{program}: {line}\n")
    return settings


def die(program: str, error: Exception, status: int) -> NoReturn:
    """Ends a program with its error in one line."""
    sys.stderr.write(f"squash-{program}: {error}\n")
    raise SystemExit(status)


def read_file(path: Path, program: str, known: set[str]) -> dict[str, Any]:
    """The program's table of a TOML file; a key that it does not know, or a table of no program, is refused by name."""
    try:
        tables = tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingError(f"config: cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"config: {path} is not TOML: {error}") from error
    for name in tables:
        if name not in (*PROGRAMS, program):
            known_tables = ", ".join(f"[{each}]" for each in PROGRAMS)
            raise SettingError(f"{name} in {path} is no table of settings; known are {known_tables}")
    table = tables.get(program, {})
    if not isinstance(table, dict):
        raise SettingError(f"{program} in {path} is {table!r}, expected a table [{program}]")
    for key in table:
        if key not in known:
            raise SettingError(f"{program}.{key} in {path} is no setting; known are {', '.join(sorted(known))}")
    return table


def convert(raw: Any, wanted: Any, key: str, source: str) -> Any:
    """`raw` as the type `wanted`, or a SettingError that names key, value and source."""
    wanted = _inner(wanted)
    if wanted is Secret:
        return _secret(raw, key, source)
    try:
        if isinstance(raw, str) and getattr(wanted, "__origin__", wanted) is tuple:
            raw = [part.strip() for part in raw.split(",") if part.strip()]
        if wanted is Address:
            return Address.parse(str(raw))
        return msgspec.convert(raw, wanted, strict=False, dec_hook=_decode)
    except (ValueError, msgspec.ValidationError) as error:
        raise SettingError(f"{key} = {raw!r} (from {source}) cannot be used: {expected(wanted) or error}") from error


def _secret(raw: Any, key: str, source: str) -> Secret:
    """The chain of causes is cut: what they say may hold the value."""
    try:
        return Secret(str(raw))
    except ValueError as error:
        raise SettingError(f"{key} (from {source}) cannot be used: {error}") from None


def _inner(wanted: Any) -> Any:
    """`T` of `T | None`: what a value that was given is converted to."""
    options = [option for option in get_args(wanted) if option is not type(None)]
    return options[0] if isinstance(wanted, UnionType) else wanted


def _decode(wanted: type, raw: Any) -> Any:
    if wanted is Path:
        return Path(raw)
    raise NotImplementedError(wanted)


def _has_default(cls: type, key: str) -> bool:
    return any(f.name == key and f.default is not dataclasses.MISSING for f in dataclasses.fields(cls))


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple) and not isinstance(value, Address):
        return ",".join(map(str, value))
    return "" if value is None else str(value)


def _parser(program: str, description: str, table: list[Row], switches: frozenset[str]) -> argparse.ArgumentParser:
    """`switches` are the keys of settings that are true when their flag stands alone."""
    parser = argparse.ArgumentParser(
        prog=f"squash-{program}",
        description=description,
        epilog="A flag wins over the environment, the environment over the file.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"squash {__version__}")
    parser.add_argument("--config", metavar="FILE", help=f"TOML file with a table [{program}] (env SQUASH_CONFIG)")
    for row in table:
        if not row.flag:
            continue
        default = f", default {row.default}" if row.default else ""
        text = f"{row.help} (env {row.env}{default})".replace("%", "%%")
        if row.key in switches:
            parser.add_argument(row.flag, dest=row.key, nargs="?", const="true", metavar="true|false", help=text)
            continue
        parser.add_argument(row.flag, dest=row.key, metavar=row.key.rsplit("_", 1)[-1].upper(), help=text)
    return parser

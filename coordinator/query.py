"""What stands in the query and the header X-Timeout. Every value that cannot be meant is refused with ApiError 422."""

import re
from collections.abc import Iterable, Iterator

from starlette.requests import HTTPConnection, Request

from coordinator.selection import Selection
from coordinator.trail import MOST, Wanted
from squash.errors import ApiError
from squash.model import LONGEST_TEXT, Action, State
from squash.reasons import Reason
from squash.tunnel import Guest

_SECONDS = re.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SHOWN = 40


def selection(request: Request) -> Selection:
    """The filters `node`, `state`, `states`, `names` (each repeated or separated by commas) and `holder`."""
    return Selection(
        nodes=frozenset(_listed(request, "node")),
        holder=request.query_params.get("holder") or None,
        states=frozenset(_state(text) for key in ("state", "states") for text in _listed(request, key)),
        names=frozenset(_listed(request, "names")),
    )


def waits(request: Request) -> bool:
    """Whether this is a long poll: `wait=true`."""
    return flag(request, "wait")


def guest(connection: HTTPConnection) -> Guest:
    """Who wants a stream of the tunnel: `client`, `takeover`, `read_only`."""
    client = connection.query_params.get("client", "")
    if len(client) > LONGEST_TEXT or not client.isprintable():
        raise _unfit("client", client, f"at most {LONGEST_TEXT} printable characters")
    takeover, read_only = flag(connection, "takeover"), flag(connection, "read_only")
    return Guest(client=client, takeover=takeover, read_only=read_only)


def facts(request: Request, keys: Iterable[str]) -> dict[str, str]:
    """Those of the keys that the query gives, with their values."""
    return {key: value for key in keys if (value := request.query_params.get(key))}


def seconds(request: Request, longest: float) -> float:
    """How long a long poll may last: X-Timeout in seconds, fractions allowed; at most, and when absent, `longest`."""
    text = request.headers.get("x-timeout")
    if text is None:
        return longest
    if not _SECONDS.fullmatch(text):
        raise _unfit("X-Timeout", text, "seconds, like 30 or 0.5")
    return min(float(text), longest)


def trail(request: Request) -> Wanted:
    """The filters `attachment`, `actor`, `action`, `since` and `limit` of the audit trail."""
    found = facts(request, ("attachment", "actor", "action", "since"))
    action, since = found.get("action"), found.get("since")
    if action is not None and action not in set(Action):
        raise _unfit("action", action, f"one of {', '.join(Action)}")
    if since is not None and not _SECONDS.fullmatch(since):
        raise _unfit("since", since, "unix seconds, like 1700000000.5")
    return Wanted(
        attachment=found.get("attachment"),
        actor=found.get("actor"),
        action=Action(action) if action is not None else None,
        since=float(since) if since is not None else None,
        limit=limit(request, MOST),
    )


def limit(request: Request, most: int) -> int:
    """`limit`: how many, at most; when absent, the most there can be."""
    text = request.query_params.get("limit")
    if text is None:
        return most
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) == 0:
        raise _unfit("limit", text, "a number from 1 on")
    return min(int(text), most)


def flag(connection: HTTPConnection, key: str) -> bool:
    """`true` or `false`; absent is false."""
    text = connection.query_params.get(key, "false")
    if text not in ("true", "false"):
        raise _unfit(key, text, "true or false")
    return text == "true"


def _listed(request: Request, key: str) -> Iterator[str]:
    for text in request.query_params.getlist(key):
        yield from (part for part in text.split(",") if part)


def _state(text: str) -> State:
    try:
        return State(text)
    except ValueError:
        raise _unfit("state", text, f"one of {', '.join(State)}") from None


def _unfit(key: str, text: str, allowed: str) -> ApiError:
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return ApiError(422, Reason.INVALID, f"{key} = {shown!r} cannot be used: expected {allowed}")

"""What one call of the API is, for the tables of them (openapi.py, access_calls.py)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from squash.access import Role
from squash.calls import BASE
from squash.reasons import Reason

ATTACHMENTS = f"{BASE}/debugattachment"
JSON = "application/json"


class Parameter(NamedTuple):
    name: str
    where: str
    """`path`, `query` or `header`."""
    schema: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Operation:
    """One call. `id` is the name of its handler, `answer` the type of what it answers in `media` (None: nothing)."""

    id: str
    method: str
    path: str
    text: str
    code: int = 200
    answer: Any = None
    media: str = JSON
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    refusals: Mapping[int, tuple[Reason, ...]] = field(default_factory=dict)
    roles: frozenset[Role] | None = frozenset()
    """Who may call it; an admin always may. None: everybody, without a token."""
    websocket: bool = False
    """Answered with 101 to a WebSocket's handshake, and otherwise with 426."""
    tunnel: bool = False
    """Takes tokens for that attachment's tunnel alone."""


LOOKING = frozenset({Role.VIEWER, Role.DEVELOPER})
DEVELOPER = frozenset({Role.DEVELOPER})
AGENT = frozenset({Role.AGENT})
EVERYBODY = frozenset(Role)

TEXT = {"type": "string"}
FLAG = {"type": "boolean", "default": False}
ID = Parameter("id", "path", TEXT, "The object's name")

MALFORMED = {413: (Reason.TOO_LARGE,), 422: (Reason.INVALID,)}
UNKNOWN = {404: (Reason.NOT_FOUND,)}
KEPT = {503: (Reason.STORE_UNAVAILABLE,)}

"""Who may do what, on the wire: roles, and the tokens that stand for them."""

from enum import StrEnum
from typing import Annotated

import msgspec

from squash.model import LONGEST_TEXT, PYTHON_ALONE, Seconds, Struct, Text

DAY = 86_400.0
TOKEN_PREFIX = "squash_"  # noqa: S105 - what tells our tokens from others', not one of them


class Role(StrEnum):
    """What a token is for. A developer may whatever a viewer may, an admin everything."""

    VIEWER = "viewer"
    """Looks at everything, changes nothing."""
    DEVELOPER = "developer"
    """Asks for debuggers, and uses and ends those that are their own."""
    AGENT = "agent"
    """Serves the attachments of its node."""
    FILTER = "filter"
    """Holds marked requests: creates attachments for them, and says how they ended."""
    ADMIN = "admin"


SUBJECT_PATTERN = r"^[^\x00-\x20\x7f]+$" + PYTHON_ALONE
Subject = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_TEXT, pattern=SUBJECT_PATTERN)]
"""Who a token stands for: a person, or the name of an agent or of some sidecars."""


class TokenWish(Struct, frozen=True, kw_only=True):
    """The body of POST /token."""

    role: Role
    subject: Subject
    ttl: Seconds = 30 * DAY
    """Seconds until it expires."""
    node: Text | None = None
    """Role `agent`: the only node that it serves."""
    namespace: Text | None = None
    """Roles `filter` and `developer`: the only namespace whose containers it is for."""


class TunnelWish(Struct, frozen=True, kw_only=True):
    """The body of POST /debugattachment/{id}/token."""

    read_only: bool = False
    """The tunnel's client may look, but change nothing."""


class Token(Struct, frozen=True, kw_only=True):
    """A token as the coordinator shows it: everything but the secret, which it does not have."""

    id: str
    role: Role
    subject: Text
    created: float
    """Unix seconds, like all times here."""
    expires: float
    revoked: float | None = None
    node: Text | None = None
    namespace: Text | None = None
    attachment: Text | None = None
    """Opens tunnels to this attachment's debug server, and does nothing else."""
    read_only: bool = False
    """Its tunnels' clients may look, but change nothing."""
    parent: str | None = None
    """The token that this one was made with, and ends with."""


class IssuedToken(Struct, frozen=True, kw_only=True):
    """The one answer that has the secret: what goes into `Authorization: Bearer …`."""

    token: Token
    secret: str

    def __repr__(self) -> str:
        return f"IssuedToken(token={self.token!r}, secret='******')"

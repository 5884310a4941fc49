"""Who calls: by the token in the header `Authorization`, or by a client's certificate. Keeps and revokes tokens.

What a certificate says counts when the coordinator has a CA for clients and no token came along: its common name (CN)
is who calls, its organizational unit (OU) the role. For an agent the CN is also the only node, for a filter the only
namespace that it is for.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.types import Scope

from coordinator import rights
from coordinator.rights import ANYBODY, Principal
from coordinator.stores import Store
from coordinator.tokens import Kept, Tokens
from squash.access import IssuedToken, Role, Token, TokenWish
from squash.errors import ApiError
from squash.logs import Log
from squash.model import LONGEST_TEXT, Action, AuditEntry, DebugAttachment
from squash.reasons import Reason

TUNNEL_TTL = 60.0
"""Seconds that a tunnel token opens its tunnel; a stream that is open stays."""
PRINCIPAL, SUBJECT, CERTIFICATE = "squash.principal", "squash.subject", "certificate"
"""Keys of an ASGI scope, the last one of its state."""
_log = Log("access")


class Access:
    """`required`: whether callers have to say who they are. `local`: the host that it answers for, and no other name
    of it, because nobody is asked and only this machine is to reach it.
    """

    def __init__(self, store: Store, *, required: bool, local: str | None = None) -> None:
        self.required = required
        self.local = local
        self.tokens = Tokens()
        self._store = store
        self._using: dict[str, set[asyncio.Event]] = {}

    def start(self) -> None:
        """Takes up what the store has. Raises SettingError when that cannot be read."""
        self.tokens.load(self._store.tokens())
        self.forget()

    def forget(self) -> None:
        """Drops what ended long ago. Raises ApiError 503."""
        for name in self.tokens.forgotten(time.time()):
            self._store.drop_token(name)

    def authenticate(self, scope: Scope) -> Principal:
        """Who calls; also left in the scope. Raises ApiError 401."""
        if not self.required:
            principal = ANYBODY
        else:
            principal = self._by_token(scope) or _by_certificate(scope)
            scope[SUBJECT] = principal.subject
        scope[PRINCIPAL] = principal
        return principal

    # -- tokens

    def create(self, wish: TokenWish, actor: str) -> IssuedToken:
        """`actor`, here and below, is who makes the call, for the audit trail.

        Raises ApiError: 409 where nobody asks for tokens, 422 for a scope that the role does not have, 503."""
        if not self.required:
            raise ApiError(409, Reason.NO_AUTHENTICATION)
        if wish.node is not None and wish.role is not Role.AGENT:
            raise ApiError(
                422, Reason.INVALID, f"node is for tokens of the role agent, and this one is a {wish.role}'s"
            )
        if wish.namespace is not None and wish.role not in (Role.FILTER, Role.DEVELOPER):
            message = f"namespace is for tokens of the roles filter and developer, and this one is a {wish.role}'s"
            raise ApiError(422, Reason.INVALID, message)
        now = time.time()
        kept, text = self.tokens.made(
            Token(
                id="",
                role=wish.role,
                subject=wish.subject,
                created=now,
                expires=now + wish.ttl,
                node=wish.node,
                namespace=wish.namespace,
            )
        )
        self.keep(kept, actor)
        _log.info("token created", token=kept.token.id, role=wish.role, subject=wish.subject)
        return IssuedToken(token=kept.token, secret=text)

    def keep(self, kept: Kept, actor: str, action: Action = Action.TOKEN_CREATED) -> None:
        """Raises ApiError 503 when the store cannot."""
        now, token = time.time(), kept.token
        detail = f"{token.id}, {token.role} {token.subject}"[:LONGEST_TEXT]
        self._store.save_token(kept, [AuditEntry(time=now, actor=actor, action=action, detail=detail)])
        self.tokens.put(kept)

    def revoke(self, name: str, actor: str) -> Token:
        """What was opened with it ends, too. Raises ApiError 404, 503."""
        kept = self.tokens.revoked(name, time.time())
        self.keep(kept, actor, Action.TOKEN_REVOKED)
        for ended in self._using.get(name, ()):
            ended.set()
        _log.info("token revoked", token=name, subject=kept.token.subject)
        return kept.token

    def tunnel_token(self, principal: Principal, attachment: DebugAttachment, *, read_only: bool) -> IssuedToken:
        """Raises ApiError 429."""
        now = time.time()
        token = Token(
            id="",
            role=principal.role,
            subject=principal.subject,
            created=now,
            expires=now + TUNNEL_TTL,
            namespace=principal.namespace,
            attachment=attachment.name,
            read_only=read_only or not rights.steers(principal, attachment),
            parent=principal.token,
        )
        text = self.tokens.pass_on(token, now)
        return IssuedToken(token=self.tokens.find(text, now), secret=text)

    @contextlib.contextmanager
    def in_use(self, principal: Principal) -> Iterator[asyncio.Event]:
        """For what stays open: the event comes when the token that opened it, or its parent, is revoked."""
        ended = asyncio.Event()
        name = principal.parent or principal.token or ""
        self._using.setdefault(name, set()).add(ended)
        try:
            yield ended
        finally:
            self._using[name].discard(ended)
            if not self._using[name]:
                del self._using[name]

    def _by_token(self, scope: Scope) -> Principal | None:
        given = [value for key, value in scope["headers"] if key == b"authorization"]
        if not given:
            return None
        kind, _, text = given[0].decode("latin-1").partition(" ")
        if len(given) > 1 or kind.lower() != "bearer":
            raise ApiError(401, Reason.UNAUTHENTICATED, "the header Authorization is not `Bearer TOKEN`, once")
        return Principal.of(self.tokens.find(text.strip(), time.time()))


def caller(scope: Mapping[str, Any]) -> Principal:
    """Who makes this call, as `authenticate` found."""
    principal: Principal = scope[PRINCIPAL]
    return principal


def _by_certificate(scope: Scope) -> Principal:
    certificate = scope.get("state", {}).get(CERTIFICATE)
    if not certificate:
        raise ApiError(401, Reason.UNAUTHENTICATED, "no token came along")
    names = [pair for part in certificate.get("subject", ()) for pair in part]
    who = [value for key, value in names if key == "commonName"]
    units = [value for key, value in names if key == "organizationalUnitName"]
    if len(who) != 1 or not who[0] or len(units) != 1 or units[0] not in set(Role):
        message = (
            f"the certificate names CN {who} and OU {units}; expected one of each, the OU one of {', '.join(Role)}"
        )
        raise ApiError(401, Reason.UNAUTHENTICATED, message[:500])
    role, name = Role(units[0]), str(who[0])
    return Principal(
        name,
        role,
        node=name if role is Role.AGENT else None,
        namespace=name if role is Role.FILTER else None,
    )

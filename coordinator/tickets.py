"""Tickets at the coordinator: it alone signs them, and it alone knows how often each was used."""

import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from msgspec.structs import replace

from coordinator.keyring import Keyring
from coordinator.uses import Uses
from squash.errors import ApiError, SettingError
from squash.logs import Log
from squash.model import AttachmentSpec
from squash.reasons import Reason
from squash.settings import CoordinatorSettings
from squash.ticket import (
    LONGEST,
    Claims,
    IssuedTicket,
    KeySet,
    Rules,
    TicketError,
    TicketWish,
    check,
    check_container,
    check_request,
)

_log = Log("tickets")


class Tickets:
    """What the API does with tickets. Refusals are ApiError; keys and counts lie beside the coordinator's database."""

    def __init__(self, settings: CoordinatorSettings) -> None:
        self._rules = Rules(settings.ticket_issuer, settings.clock_skew)
        self._longest = settings.ticket_longest
        directory = directory_of(settings)
        self._keyring = Keyring(directory)
        self._uses = Uses(directory)

    def issue(self, wish: TicketWish) -> IssuedTicket:
        """Raises ApiError 422 when it would be valid for too long, or be longer than a header's value may be."""
        if wish.ttl > self._longest:
            message = f"ttl is {wish.ttl:g} s, and a ticket is valid for {self._longest:g} s at most (ticket_longest)"
            raise ApiError(422, Reason.INVALID, message)
        now = int(time.time())
        claims = Claims(
            iss=self._rules.issuer,
            sub=wish.owner,
            jti=secrets.token_hex(12),
            iat=now,
            nbf=now,
            exp=now + max(1, round(wish.ttl)),
            image=wish.image,
            namespace=wish.namespace,
            methods=wish.methods,
            path_prefix=wish.path_prefix,
            uses=wish.uses,
            request=wish.request,
        )
        with _kept():
            value, kid = self._keyring.sign(claims, now)
        if len(value) > LONGEST:
            message = f"the ticket would have {len(value)} characters, and may have {LONGEST}: name fewer things"
            raise ApiError(422, Reason.INVALID, message)
        _log.info("ticket issued", ticket=claims.jti, developer=claims.sub, image=claims.image, until=claims.exp)
        return IssuedTicket(ticket=value, kid=kid, claims=claims)

    def keys(self) -> KeySet:
        """The public keys."""
        with _kept():
            return self._keyring.public(time.time())

    def rotate(self, *, revoke: bool) -> KeySet:
        """Tickets of earlier keys stay valid, unless they are to be revoked."""
        now = time.time()
        with _kept():
            return self._keyring.rotate(now, now if revoke else now + self._longest + self._rules.skew)

    def read(self, spec: AttachmentSpec) -> tuple[AttachmentSpec, Claims | None]:
        """The spec as it is kept: without the ticket, but with what that binds it to. Raises ApiError 403."""
        if spec.ticket is None:
            return replace(spec, ticket_id=None, debug_request=None), None
        now = time.time()
        try:
            with _kept():
                claims = self._keyring.verifier(now).claims(spec.ticket)
            check(claims, self._rules, now)
            if spec.held:
                check_request(claims, spec.held.method, spec.held.path)
        except TicketError as error:
            raise _refused(error) from error
        bound = replace(spec, ticket=None, ticket_id=claims.jti, owner=claims.sub, debug_request=claims.request)
        return bound, claims

    @contextlib.contextmanager
    def used(self, claims: Claims | None, spec: AttachmentSpec) -> Iterator[None]:
        """Counts a use on the container of `spec`, which comes to nothing if the body raises. Raises ApiError 403."""
        if claims is None:
            yield
            return
        namespace = spec.attachment.get("namespace")
        now = time.time()
        try:
            # Once more: of one that has expired since it was read, the uses are no longer remembered.
            check(claims, self._rules, now)
            others = spec.images or ()
            check_container(claims, spec.image, namespace if isinstance(namespace, str) else "", others)
        except TicketError as error:
            raise _refused(error) from error
        self._uses.add(claims.jti, claims.uses, claims.exp + self._rules.skew, now)
        try:
            yield
        except ApiError:
            self._uses.take_back(claims.jti)
            raise

    def close(self) -> None:
        self._uses.close()


def directory_of(settings: CoordinatorSettings) -> Path | None:
    """Beside the database; nowhere when nothing is to be kept."""
    return settings.database.with_suffix(".tickets") if settings.store == "sqlite" else None


def _refused(error: TicketError) -> ApiError:
    return ApiError(403, error.reason, error.message)


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    try:
        yield
    except SettingError as error:
        raise ApiError(503, Reason.STORE_UNAVAILABLE, error.message) from error

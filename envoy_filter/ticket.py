"""Which marks count: all of them, or those that are tickets. A ticket is verified here, without a call to anybody."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from squash.calls import ticket_keys
from squash.errors import SettingError, SquashError
from squash.logs import Log
from squash.reasons import Reason
from squash.settings import SidecarSettings
from squash.tasks import spawn
from squash.ticket import (
    Claims,
    KeySet,
    Rules,
    TicketError,
    Verifier,
    check,
    check_container,
    check_request,
    looks_signed,
    read_keys,
)

from .headers import MarkedRequest
from .http1 import Http1Client
from .metrics import Metrics

REFRESH = 60.0
"""Seconds between two looks at the keys: so long does a sidecar trust one that was revoked."""
SOONEST = 5.0
"""Seconds between two looks that tickets of unknown keys bring about: anybody can make such."""
REMEMBERED = 4_096
"""Tickets whose signatures need not be verified again."""
_log = Log("tickets")


class Keys:
    """The public keys: the coordinator's, or those of a file. Survives any failure of either with those it has."""

    def __init__(self, client: Http1Client, file: Path | None, timeout: float) -> None:
        self._client = client
        self._file = file
        self._timeout = timeout
        self._looked = float("-inf")
        self._stamp: tuple[int, int] | None = None
        self._look: asyncio.Task[None] | None = None
        self.verifier = Verifier(KeySet(keys=[]))

    async def refresh(self, *, within: float) -> bool:
        """Looks at the keys, unless that was done `within` so many seconds; many callers share one look."""
        if self._look is None or self._look.done():
            if time.monotonic() - self._looked < within:
                return False
            self._looked = time.monotonic()
            self._look = spawn(self._read(), "ticket keys")
        await asyncio.wait([self._look])
        return True

    async def follow(self) -> None:
        """Keeps the keys fresh until cancelled."""
        while True:
            await self.refresh(within=0.0)
            await asyncio.sleep(REFRESH if self.verifier.kids else SOONEST)

    async def _read(self) -> None:
        try:
            found: KeySet | None
            if self._file:
                found = self._changed(self._file)
            else:
                found = await self._client.send(ticket_keys(), self._timeout)
            if found:
                before, self.verifier = self.verifier, Verifier(found)
                if self.verifier.kids != before.kids:
                    _log.info("ticket keys", kids=",".join(sorted(self.verifier.kids)))
        except SquashError as error:
            _log.warning("cannot read the ticket keys, going on with those known", problem=error.message)

    def _changed(self, file: Path) -> KeySet | None:
        try:
            found = file.stat()
            stamp = found.st_mtime_ns, found.st_ino
            if stamp == self._stamp:
                return None
            keys = read_keys(file.read_bytes())
        except OSError as error:
            raise SettingError(f"ticket_keys = {str(file)!r} cannot be read: {error.strerror}") from error
        self._stamp = stamp
        return keys


class Gate:
    """Decides by the setting `tickets`. `namespace` is that of our own pod, None where it is not known."""

    def __init__(self, settings: SidecarSettings, client: Http1Client, namespace: str | None, metrics: Metrics) -> None:
        self._settings = settings
        self._rules = Rules(settings.ticket_issuer, settings.clock_skew)
        self._namespace = namespace
        self._metrics = metrics
        self._verified: OrderedDict[bytes, Claims] = OrderedDict()
        self._kids: frozenset[str] = frozenset()
        self._keys = Keys(client, settings.ticket_keys, settings.request_timeout) if settings.tickets != "off" else None
        self._follower: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look at the keys."""
        if self._keys:
            self._follower = spawn(self._keys.follow(), "ticket keys")

    def stop(self) -> None:
        if self._follower:
            self._follower.cancel()

    async def admitted(self, request: MarkedRequest) -> MarkedRequest | None:
        """The request with its ticket, if it has one; None when its mark does not count, as if it were absent."""
        if self._keys is None:
            return request
        value = request.mark.value if request.mark else ""
        if not looks_signed(value):
            if self._settings.tickets == "optional":
                return request
            self._refused(Reason.TICKET_MISSING)
            return None
        try:
            claims = await self._claims(value, self._keys)
            check(claims, self._rules, time.time())
            check_request(claims, request.held.method, request.held.path)
            check_container(claims, None, self._namespace)
        except TicketError as error:
            self._refused(error.reason, error)
            return None
        return replace(request, ticket=value)

    async def _claims(self, value: str, keys: Keys) -> Claims:
        digest = hashlib.sha256(value.encode()).digest()
        if keys.verifier.kids != self._kids:
            # What a revoked key has signed must be looked at again.
            self._verified.clear()
            self._kids = keys.verifier.kids
        if known := self._verified.get(digest):
            return known
        try:
            claims = keys.verifier.claims(value)
        except TicketError as error:
            if error.reason is not Reason.TICKET_UNKNOWN_KEY or not await keys.refresh(within=SOONEST):
                raise
            claims = keys.verifier.claims(value)
        self._verified[digest] = claims
        if len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)
        return claims

    def _refused(self, reason: Reason, error: TicketError | None = None) -> None:
        self._metrics.ticket_refused(reason)
        claims = error.claims if error else None
        _log.info(
            "ticket refused",
            reason=reason,
            problem=error.message if error else None,
            ticket=claims.jti if claims else None,
            developer=claims.sub if claims else None,
        )

"""The tokens that the coordinator knows: made, recognised, revoked. Pure: time is passed in, nothing is kept here.

A token reads `squash_ID_SECRET`: the id may be shown, the secret (256 random bits) is in the answer to its making and
nowhere else. What is kept is a SHA-256 of the whole: nothing can be guessed from that, for there is no small set of
secrets to try.
"""

import hashlib
import hmac
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from msgspec.structs import replace

from squash.access import TOKEN_PREFIX, Role, Token
from squash.errors import ApiError
from squash.model import Struct
from squash.reasons import Reason

SHOWN_AFTER = 30 * 86_400.0
"""Seconds that a token is still listed after its end, so that one can see what became of it."""
MOST_PASSING = 1_000
"""Passing tokens of one subject at once; each lives for a minute."""
_ID_BYTES, _SECRET_BYTES = 8, 32
_FORM = re.compile(rf"{TOKEN_PREFIX}([0-9a-f]{{{2 * _ID_BYTES}}})_[0-9a-f]{{{2 * _SECRET_BYTES}}}")
_NOBODYS = hashlib.sha256(b"").hexdigest()


class Kept(Struct, frozen=True, kw_only=True):
    """What is kept of a token."""

    token: Token
    hash: str
    """SHA-256 of its text, in hexadecimal."""


class Tokens:
    def __init__(self, random_hex: Callable[[int], str] = secrets.token_hex) -> None:
        self._random_hex = random_hex
        self._kept: dict[str, Kept] = {}
        self._passing: dict[str, Kept] = {}
        self._passing_of: Counter[str] = Counter()

    def load(self, kept: Iterable[Kept]) -> None:
        """Takes up what was kept."""
        self._kept.update((each.token.id, each) for each in kept)

    def listed(self) -> list[Token]:
        """Every token that is kept, oldest first. Passing ones are not."""
        return sorted((kept.token for kept in self._kept.values()), key=lambda token: token.created)

    def has_admin(self, now: float) -> bool:
        """Whether some token may do everything."""
        return any(token.role is Role.ADMIN and _lives(token, now) for token in self.listed())

    def made(self, token: Token) -> tuple[Kept, str]:
        """A new token like this one, whose id is left to us, and its text. It is known from `put` on."""
        name = self._random_hex(_ID_BYTES)
        text = f"{TOKEN_PREFIX}{name}_{self._random_hex(_SECRET_BYTES)}"
        return Kept(token=replace(token, id=name), hash=_digest(text)), text

    def adopted(self, token: Token, text: str) -> Kept:
        """A token that somebody else made, as it came. Raises ValueError when it does not look like one of ours."""
        match = _FORM.fullmatch(text)
        if not match:
            raise ValueError(
                f"expected {TOKEN_PREFIX}ID_SECRET, with {2 * _ID_BYTES} and {2 * _SECRET_BYTES} hex digits"
            )
        return Kept(token=replace(token, id=match[1]), hash=_digest(text))

    def put(self, kept: Kept) -> None:
        self._kept[kept.token.id] = kept

    def pass_on(self, token: Token, now: float) -> str:
        """The text of a token that lives in memory alone, for a short while. Raises ApiError 429."""
        self._forget_passed(now)
        if self._passing_of[token.subject] >= MOST_PASSING:
            raise ApiError(429, Reason.LIMIT_REACHED, f"{token.subject} has {MOST_PASSING} tunnel tokens at once")
        kept, text = self.made(token)
        self._passing[kept.token.id] = kept
        self._passing_of[token.subject] += 1
        return text

    def drop_passing(self, attachment: str) -> None:
        """Forgets the passing tokens for an attachment that is gone."""
        for name, kept in list(self._passing.items()):
            if kept.token.attachment == attachment:
                self._drop_passing(name)

    def get(self, name: str) -> Token:
        """Raises ApiError 404."""
        if kept := self._kept.get(name):
            return kept.token
        raise ApiError(404, Reason.NOT_FOUND, f"there is no token {name[:64]!r}")

    def revoked(self, name: str, now: float) -> Kept:
        """The token as it is to be from now on; one that was revoked before stays as it is. Raises ApiError 404."""
        token = self.get(name)
        if token.revoked is None:
            token = replace(token, revoked=now)
        return replace(self._kept[name], token=token)

    def forgotten(self, now: float) -> Iterator[str]:
        """Ids of tokens that ended so long ago that nobody asks about them any more; they are dropped."""
        for name, kept in list(self._kept.items()):
            if kept.token.expires + SHOWN_AFTER < now:
                del self._kept[name]
                yield name

    def find(self, text: str, now: float) -> Token:
        """The token that reads so. Raises ApiError 401: unknown, expired, revoked."""
        match = _FORM.fullmatch(text)
        if not match:
            raise ApiError(401, Reason.UNAUTHENTICATED, "what came as a token is none of squash's")
        kept = self._kept.get(match[1]) or self._passing.get(match[1])
        # Compared in any case, and in constant time: how long it takes tells nothing.
        same = hmac.compare_digest(_digest(text), kept.hash if kept else _NOBODYS)
        if not kept or not same:
            raise ApiError(401, Reason.UNAUTHENTICATED, f"this coordinator does not know token {match[1]}")
        self._check(kept.token, now)
        return kept.token

    def _check(self, token: Token, now: float) -> None:
        if token.revoked is not None:
            raise ApiError(401, Reason.TOKEN_REVOKED, f"token {token.id} of {token.subject} was revoked")
        if token.expires <= now:
            raise ApiError(401, Reason.TOKEN_EXPIRED, f"token {token.id} of {token.subject} has expired")
        if token.parent is not None:
            parent = self._kept.get(token.parent)
            if parent is None:
                raise ApiError(401, Reason.TOKEN_EXPIRED, f"token {token.parent} of {token.subject} is gone")
            self._check(parent.token, now)

    def _forget_passed(self, now: float) -> None:
        # They all live equally long, so the oldest end first.
        while self._passing:
            name, kept = next(iter(self._passing.items()))
            if kept.token.expires > now:
                return
            self._drop_passing(name)

    def _drop_passing(self, name: str) -> None:
        subject = self._passing.pop(name).token.subject
        self._passing_of[subject] -= 1
        if not self._passing_of[subject]:
            del self._passing_of[subject]


def _lives(token: Token, now: float) -> bool:
    return token.revoked is None and token.expires > now


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

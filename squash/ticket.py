"""Tickets: signed values of the mark, that say who may have which requests held, and until when.

A ticket is a JWS in its compact form (RFC 7515) with the claims of a JWT (RFC 7519), signed with Ed25519 (RFC 8037).
The coordinator alone can sign; whoever has its public keys (a JWKS, RFC 7517) can verify. Pure: time is passed in.
The libraries behind it are large, so importing this module does not import them; using it does.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote

import msgspec

from squash import images
from squash.errors import SquashError
from squash.model import IMAGE_PATTERN, LONGEST_PATH, PYTHON_ALONE, Method, Name, Seconds, Struct, Text
from squash.reasons import Reason

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ALGORITHM = "EdDSA"
TYPE = "squash-ticket+jwt"
"""`typ` of the header: nothing else that is signed with these keys passes for a ticket (RFC 8725, 3.11)."""
LONGEST = 4096
"""Characters of a ticket: the most that is copied into baggage, where a ticket needs no escapes."""
_ESCAPED_AT_MOST = 4
"""Times that a path may have been percent-encoded."""
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")

Methods = Annotated[list[Method], msgspec.Meta(min_length=1, max_length=16)]
PREFIX_PATTERN = r"^/[!-~]*$" + PYTHON_ALONE
Prefix = Annotated[str, msgspec.Meta(pattern=PREFIX_PATTERN, max_length=512)]
Uses = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Image = Annotated[str, msgspec.Meta(min_length=1, max_length=512, pattern=IMAGE_PATTERN)]
When = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Claims(Struct, frozen=True, kw_only=True):
    """What a ticket says. Names of three letters are those of RFC 7519; times are unix seconds."""

    iss: Text
    sub: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    """The developer it is for; without one it is for the debug requests of nobody in particular."""
    jti: Name
    """Its own name: how often it was used is counted by it."""
    iat: When
    nbf: When
    exp: When
    image: Image
    namespace: Text | None = None
    methods: Methods | None = None
    path_prefix: Prefix | None = None
    """Of the path without its query; `/cart` covers `/cart` and `/cart/…`, not `/carts`."""
    uses: Uses
    """How many requests may be held with it."""
    request: Name | None = None
    """The only debug request that it is for; absent: any that its developer has made."""


class TicketWish(Struct, frozen=True, kw_only=True):
    """The body of POST /ticket; `Claims` tells what the fields mean."""

    image: Image
    ttl: Seconds = 1800.0
    """Seconds that it is valid for."""
    namespace: Text | None = None
    methods: Methods | None = None
    path_prefix: Prefix | None = None
    uses: Uses = 1
    request: Name | None = None
    owner: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] | None = None
    """The developer it is for; with authentication the coordinator writes who asks."""


class IssuedTicket(Struct, frozen=True, kw_only=True):
    """The one answer that has the ticket itself: what goes into the header `x-squash-debug`."""

    ticket: str
    kid: str
    claims: Claims

    def __repr__(self) -> str:
        return f"IssuedTicket(ticket='******', kid={self.kid!r}, claims={self.claims!r})"


class Key(Struct, frozen=True, kw_only=True):
    """A public key as RFC 8037 has it: `kty` OKP, `crv` Ed25519, `x` its 32 bytes in base64url."""

    kty: str
    kid: str = ""
    crv: str = ""
    x: str = ""
    use: str | None = None
    alg: str | None = None


class KeySet(Struct, frozen=True, kw_only=True):
    """A JWKS (RFC 7517). The first key is the one that new tickets are signed with."""

    keys: list[Key]


class TicketError(SquashError):
    """A ticket that is not accepted. `claims` are there when its signature is good."""

    def __init__(self, reason: Reason, message: str = "", claims: Claims | None = None) -> None:
        super().__init__(reason, message)
        self.claims = claims


@dataclass(frozen=True)
class Rules:
    """Who must have issued a ticket, and by how many seconds clocks may differ."""

    issuer: str
    skew: float


class Verifier:
    """Knows some public keys. Keys of other kinds than ours are passed over."""

    def __init__(self, keys: KeySet) -> None:
        """Raises TicketError for a key of our kind that cannot be used."""
        self._keys = {key.kid: _public(key) for key in keys.keys if key.kty == "OKP" and key.crv == "Ed25519"}

    @property
    def kids(self) -> frozenset[str]:
        return frozenset(self._keys)

    def claims(self, value: str) -> Claims:
        """What a ticket with a good signature says, whenever and wherever it is valid. Raises TicketError."""
        from jwt.api_jws import PyJWS  # noqa: PLC0415 - large
        from jwt.exceptions import InvalidSignatureError, InvalidTokenError  # noqa: PLC0415

        head = header(value)
        if head.get("alg") != ALGORITHM or head.get("typ") != TYPE:
            raise TicketError(Reason.TICKET_FORGED, f"a ticket is signed with {ALGORITHM} and says that it is one")
        key = self._keys.get(head.get("kid", ""))
        if key is None:
            raise TicketError(Reason.TICKET_UNKNOWN_KEY)
        try:
            payload = PyJWS().decode_complete(value, key, algorithms=[ALGORITHM])["payload"]
        except InvalidSignatureError as error:
            raise TicketError(Reason.TICKET_FORGED) from error
        except InvalidTokenError as error:
            raise TicketError(Reason.TICKET_MALFORMED) from error
        return _claims(payload)


def sign(claims: Claims, key: "Ed25519PrivateKey", kid: str) -> str:
    """The ticket."""
    from jwt.api_jws import PyJWS  # noqa: PLC0415 - large

    return PyJWS().encode(msgspec.json.encode(claims), key, ALGORITHM, {"kid": kid, "typ": TYPE})


def public_key(key: "Ed25519PrivateKey", kid: str) -> Key:
    """The key that verifies what `key` signs."""
    raw = key.public_key().public_bytes_raw()
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return Key(kty="OKP", crv="Ed25519", kid=kid, x=x, use="sig", alg=ALGORITHM)


def looks_signed(value: str) -> bool:
    """Whether somebody meant this for a JWS: three parts, of which the first is the beginning of an object in JSON."""
    return value.startswith("eyJ") and _FORM.fullmatch(value) is not None


def header(value: str) -> dict[str, Any]:
    """The header of a JWS, as it stands there: nothing is verified. Raises TicketError when it is none."""
    if len(value) > LONGEST or not _FORM.fullmatch(value):
        raise TicketError(Reason.TICKET_MALFORMED)
    try:
        return msgspec.json.decode(_bytes(value.split(".", 1)[0]), type=dict[str, str])
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error) as error:
        raise TicketError(Reason.TICKET_MALFORMED) from error


def unverified(value: str) -> Claims:
    """What a value says of itself, whoever signed it: to be shown, never to be acted upon. Raises TicketError."""
    header(value)
    try:
        return _claims(_bytes(value.split(".")[1]))
    except binascii.Error as error:
        raise TicketError(Reason.TICKET_MALFORMED) from error


def check(claims: Claims, rules: Rules, now: float) -> None:
    """Raises TicketError unless it was issued by whom we trust and is valid at `now`."""
    if claims.iss != rules.issuer:
        raise TicketError(Reason.TICKET_FOREIGN, f"issued by {claims.iss!r}, expected {rules.issuer!r}", claims)
    if now < claims.nbf - rules.skew:
        raise TicketError(Reason.TICKET_EARLY, f"not valid for another {claims.nbf - now:.0f} s", claims)
    if now >= claims.exp + rules.skew:
        raise TicketError(Reason.TICKET_EXPIRED, f"expired {now - claims.exp:.0f} s ago", claims)


def check_request(claims: Claims, method: str | None, path: str | None) -> None:
    """Raises TicketError unless the ticket is for requests like this one."""
    if claims.methods is not None and method not in claims.methods:
        message = f"it is for {', '.join(claims.methods)}, not for {method}"
        raise TicketError(Reason.TICKET_SCOPE, message, claims)
    if claims.path_prefix is not None and not covers(claims.path_prefix, path or ""):
        raise TicketError(Reason.TICKET_SCOPE, f"it is for paths under {claims.path_prefix}", claims)


def check_container(claims: Claims, image: str | None, namespace: str | None, other_images: Iterable[str] = ()) -> None:
    """Raises TicketError unless the ticket is for this container. What is None is not known here.

    `other_images` are other names of its image.

    A `namespace` of "" is that of a container without one, which no ticket for a namespace is for.
    """
    if image is not None and not images.same(claims.image, image, other_images):
        raise TicketError(Reason.TICKET_SCOPE, f"it is for image {claims.image!r}, not for {image!r}", claims)
    if namespace is not None and claims.namespace not in (None, namespace):
        other = repr(namespace) if namespace else "a container without one"
        message = f"it is for namespace {claims.namespace!r}, not for {other}"
        raise TicketError(Reason.TICKET_SCOPE, message, claims)


def covers(prefix: str, path: str) -> bool:
    """Whether a path lies under the prefix, for whoever it is handed on to, however they read it.

    Nowhere for certain lies one that may have been cut, is escaped many times over, or has `.` or `..` in it: as such,
    escaped, or with parameters (`..;a`, RFC 3986, 3.3).
    """
    plain = path.split("?", 1)[0]
    read = _unescaped(plain)
    if len(plain) >= LONGEST_PATH or read is None:
        return False
    if any(step.split(";", 1)[0] in (".", "..") for step in read.replace("\\", "/").split("/")):
        return False
    return plain == prefix or plain.startswith(prefix if prefix.endswith("/") else prefix + "/")


def read_keys(document: bytes) -> KeySet:
    """A JWKS. Raises TicketError when it is none."""
    try:
        return msgspec.json.decode(document, type=KeySet)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TicketError(Reason.INVALID, f"expected a JWKS: {error}") from error


def _unescaped(path: str) -> str | None:
    """Without escapes, also those of escapes; None when there is no end of them."""
    for _ in range(_ESCAPED_AT_MOST):
        before, path = path, unquote(path)
        if path == before:
            return path
    return None


def _claims(payload: bytes) -> Claims:
    try:
        return msgspec.json.decode(payload, type=Claims)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TicketError(Reason.TICKET_MALFORMED) from error


def _public(key: Key) -> "Ed25519PublicKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - large

    try:
        return Ed25519PublicKey.from_public_bytes(_bytes(key.x))
    except (ValueError, binascii.Error) as error:
        raise TicketError(Reason.INVALID, f"the key {key.kid!r} is no Ed25519 key: {error}") from error


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def table(claims: Claims) -> Mapping[str, str]:
    """What a ticket is for, in words, by the names of the claims."""
    said = {
        "developer": claims.sub,
        "image": claims.image,
        "namespace": claims.namespace,
        "methods": ", ".join(claims.methods) if claims.methods else None,
        "path": f"{claims.path_prefix} and below" if claims.path_prefix else None,
        "uses": str(claims.uses),
        "debug request": claims.request,
        "issuer": claims.iss,
        "id": claims.jti,
    }
    return {name: text for name, text in said.items() if text}

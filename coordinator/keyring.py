"""The keys that sign tickets: one file each, readable for the coordinator's user alone; made when first needed."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from squash.errors import SettingError
from squash.logs import Log
from squash.model import Struct
from squash.private import private_directory
from squash.ticket import Claims, Key, KeySet, Verifier, public_key, sign

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_log = Log("tickets")


class _File(Struct, frozen=True, kw_only=True):
    kid: str
    pem: str
    created: float
    until: float | None = None
    """Unix seconds at which the last ticket signed with it has expired; absent for the key in use."""

    def __repr__(self) -> str:
        return f"_File(kid={self.kid!r})"


@dataclass(frozen=True)
class _Pair:
    file: _File
    private: "Ed25519PrivateKey"
    public: Key


class Keyring:
    """`directory` is None where nothing is to be kept. Raises SettingError for what lies there and is no key."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._pairs: list[_Pair] | None = None
        self._verifier: Verifier | None = None

    def sign(self, claims: Claims, now: float) -> tuple[str, str]:
        """The ticket, and the `kid` of the key that signed it."""
        newest = self._usable(now)[0]
        return sign(claims, newest.private, newest.file.kid), newest.file.kid

    def public(self, now: float) -> KeySet:
        """All keys that tickets may still be signed with, the one in use first."""
        return KeySet(keys=[pair.public for pair in self._usable(now)])

    def verifier(self, now: float) -> Verifier:
        pairs = self._usable(now)
        if self._verifier is None or self._verifier.kids != {pair.file.kid for pair in pairs}:
            self._verifier = Verifier(self.public(now))
        return self._verifier

    def rotate(self, now: float, until: float) -> KeySet:
        """A new key; the earlier ones are known until `until`, and no longer."""
        pairs = self._usable(now)
        fresh = self._made(now)
        for place, pair in enumerate(pairs):
            kept = until if pair.file.until is None else min(pair.file.until, until)
            pairs[place] = self._kept(msgspec.structs.replace(pair.file, until=kept))
        self._pairs = [fresh, *pairs]
        _log.info("keys rotated", kid=fresh.file.kid, earlier=len(self._usable(now)) - 1)
        return self.public(now)

    def _usable(self, now: float) -> list[_Pair]:
        if self._pairs is None:
            self._pairs = sorted(self._read(), key=lambda pair: (pair.file.until is not None, -pair.file.created))
        for pair in [pair for pair in self._pairs if pair.file.until is not None and pair.file.until <= now]:
            self._pairs.remove(pair)
            if self._directory:
                _path(self._directory, pair.file.kid).unlink(missing_ok=True)
        if not self._pairs or self._pairs[0].file.until is not None:
            self._pairs.insert(0, self._made(now))
        return self._pairs

    def _made(self, now: float) -> _Pair:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - large
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        return self._kept(_File(kid=secrets.token_hex(8), pem=pem, created=now))

    def _kept(self, file: _File) -> _Pair:
        if self._directory:
            private_directory(self._directory)
            path = _path(self._directory, file.kid)
            fresh = path.with_suffix(".new")
            try:
                fresh.touch(mode=0o600)
                with fresh.open("wb") as opened:
                    opened.write(msgspec.json.encode(file))
                    opened.flush()
                    os.fsync(opened.fileno())
                fresh.replace(path)
            except OSError as error:
                raise SettingError(f"the key {str(path)!r} cannot be kept: {error.strerror}") from error
        return _pair(file)

    def _read(self) -> list[_Pair]:
        if self._directory is None or not self._directory.is_dir():
            return []
        return [_pair(_read(path)) for path in self._directory.glob("*.key")]


def _path(directory: Path, kid: str) -> Path:
    return directory / f"{kid}.key"


def _read(path: Path) -> _File:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise SettingError(f"the key {str(path)!r} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingError(f"{str(path)!r} is no key of ours: move it away") from error


def _pair(file: _File) -> _Pair:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - large
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        private = load_pem_private_key(file.pem.encode(), None)
    except ValueError as error:
        raise SettingError(f"the key {file.kid!r} cannot be read: {error}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise SettingError(f"the key {file.kid!r} is not of the kind Ed25519")
    return _Pair(file, private, public_key(private, file.kid))

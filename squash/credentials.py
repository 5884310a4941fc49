"""What a client shows the coordinator, and how it knows that it is the coordinator: token, certificate, CA.

Files are looked at again whenever they changed, so that what expires can be exchanged without a restart.
"""

import contextlib
import ssl
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from squash.errors import SettingError
from squash.options import Address
from squash.secret import Secret

_Stamp = tuple[int, int, int]


class Settings(Protocol):
    """The settings of every client program that are about this."""

    @property
    def token(self) -> Secret | None: ...
    @property
    def token_file(self) -> Path | None: ...
    @property
    def tls_ca(self) -> Path | None: ...
    @property
    def tls_certificate(self) -> Path | None: ...
    @property
    def tls_key(self) -> Path | None: ...
    @property
    def insecure(self) -> bool: ...


class Credentials:
    """For calls to one coordinator, at `url`."""

    def __init__(
        self,
        url: str,
        *,
        token: Secret | None = None,
        token_file: Path | None = None,
        tls_ca: Path | None = None,
        tls_certificate: Path | None = None,
        tls_key: Path | None = None,
        insecure: bool = False,
    ) -> None:
        """Raises SettingError when a file cannot be used, or the token would travel unprotected."""
        self._token = token
        self._file = _Watched(token_file) if token_file and not token else None
        self._context: ssl.SSLContext | None = None
        self._certificate, self._key, self._ca = tls_certificate, tls_key, tls_ca
        self._trusted = [_Watched(path) for path in (tls_ca, tls_certificate, tls_key) if path]
        self.shown = bool(token or token_file or tls_certificate)
        """Whether the coordinator is told who calls."""
        _check(url, has_token=bool(token or token_file), insecure=insecure)
        if tls_key and not tls_certificate:
            raise SettingError(f"tls_key = {str(tls_key)!r} is of no use without tls_certificate")
        if url.startswith("https://"):
            self._context = ssl.create_default_context(cafile=_readable(tls_ca, "tls_ca"))
            self._load()
        if self._file:
            self._read(self._file)

    @classmethod
    def of(cls, url: str, settings: Settings) -> "Credentials":
        return cls(
            url,
            token=settings.token,
            token_file=settings.token_file,
            tls_ca=settings.tls_ca,
            tls_certificate=settings.tls_certificate,
            tls_key=settings.tls_key,
            insecure=settings.insecure,
        )

    def headers(self) -> dict[str, str]:
        """What goes along with each call. A token file that cannot be read just now leaves the token as it was."""
        if self._file and self._file.changed():
            # While it is being exchanged, or when it is spoiled, the coordinator says what is wrong with the old one.
            with contextlib.suppress(SettingError):
                self._read(self._file)
        return {"authorization": f"Bearer {self._token.reveal()}"} if self._token else {}

    def context(self) -> ssl.SSLContext | None:
        """For a new connection; None where the coordinator's address has no TLS. The same one each time, kept up."""
        changed = [watched.changed() for watched in self._trusted] if self._context else []
        if self._context and any(changed):
            # Half exchanged files do not fit together; the other half changes them once more.
            with contextlib.suppress(SettingError, OSError):
                if self._ca:
                    self._context.load_verify_locations(self._ca)
                self._load()
        return self._context

    def _load(self) -> None:
        if self._context and self._certificate:
            try:
                self._context.load_cert_chain(self._certificate, self._key)
            except (OSError, ssl.SSLError) as error:
                raise SettingError(f"tls_certificate = {str(self._certificate)!r} cannot be used: {error}") from error

    def _read(self, file: "_Watched") -> None:
        file.changed()
        try:
            self._token = Secret(file.path.read_text())
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise SettingError(f"token_file = {str(file.path)!r} cannot be read: {why}") from None
        except ValueError as error:
            raise SettingError(f"token_file = {str(file.path)!r} holds no token: {error}") from None


def anonymous(url: str) -> Credentials:
    """For a coordinator that asks for none."""
    return Credentials(url)


class _Watched:
    """A file that may be exchanged while we run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp = _stamp(path)

    def changed(self) -> bool:
        """Whether it is another one than at the last look."""
        before, self._stamp = self._stamp, _stamp(self.path)
        return self._stamp is not None and self._stamp != before


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _readable(path: Path | None, key: str) -> Path | None:
    if path is None:
        return None
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(f"{key} = {str(path)!r} cannot be used: {error}") from error
    return path


def _check(url: str, *, has_token: bool, insecure: bool) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return  # whoever calls there says what is wrong with it
    if has_token and parts.scheme == "http" and not insecure and not Address(host, 0).is_loopback:
        raise SettingError(
            f"server_url = {url!r} would carry the token where others can read it: use https, "
            "or say `insecure` (SQUASH_INSECURE=true) where something else encrypts it, such as a service mesh"
        )

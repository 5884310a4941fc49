"""TLS of the coordinator: its certificate, read again when it changes, and certificates that clients show."""

import ssl
from asyncio import BaseTransport, Transport
from pathlib import Path
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from coordinator.access import CERTIFICATE
from squash.errors import SettingError
from squash.logs import Log
from squash.settings import CoordinatorSettings

_log = Log("tls")
_Stamps = tuple[tuple[int, int, int] | None, ...]


class ShowingCertificates(HttpToolsProtocol):
    """Tells the application of the certificate that the client showed, in `scope["state"]`."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(cast(Transport, transport))
        if certificate := transport.get_extra_info("peercert"):
            self.app_state = {**self.app_state, CERTIFICATE: certificate}


class Tls:
    """`context` is for the listening socket. Each handshake looks whether the files have changed."""

    def __init__(self, settings: CoordinatorSettings) -> None:
        """Raises SettingError when a file cannot be used."""
        if settings.tls_certificate is None:
            raise SettingError("tls_client_ca and tls_key are of no use without tls_certificate")
        self._certificate = settings.tls_certificate
        self._key = settings.tls_key
        self._client_ca = settings.tls_client_ca
        self._stamps = self._look()
        try:
            self.context = self._current = self._made()
        except (OSError, ssl.SSLError) as error:
            named = ", ".join(map(str, self._files()))
            raise SettingError(f"the TLS files ({named}) cannot be used: {error}") from error
        self.context.sni_callback = self._each_handshake

    def _made(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(self._certificate, self._key)
        if self._client_ca:
            context.load_verify_locations(self._client_ca)
            # Those who show none need a token.
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def _each_handshake(self, connection: ssl.SSLObject, _name: str | None, _first: ssl.SSLContext) -> None:
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._current = self._made()
                _log.info("certificates read again")
            except (OSError, ssl.SSLError) as error:
                # Half exchanged: the other half changes the files once more.
                _log.warning("changed certificates cannot be used, keeping the former", error=error)
        connection.context = self._current

    def _files(self) -> list[Path]:
        return [path for path in (self._certificate, self._key, self._client_ca) if path]

    def _look(self) -> _Stamps:
        return tuple(_stamp(path) for path in self._files())


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size

"""A certificate authority of the tests' own, and what it signs, as files."""

import ssl
from pathlib import Path

import trustme


class Authority:
    def __init__(self, directory: Path, name: str = "ca") -> None:
        self._directory = directory
        self._authority = trustme.CA()
        self.path = directory / f"{name}.pem"
        self._authority.cert_pem.write_to_path(self.path)

    def sign(self, name: str, *, who: str = "", role: str = "", host: str = "127.0.0.1") -> Path:
        """A certificate and its key in one file, which may have been there before; `who` is its CN, `role` its OU."""
        signed = self._authority.issue_cert(host, common_name=who or None, organization_unit_name=role or None)
        path, new = self._directory / f"{name}.pem", self._directory / f"{name}.new"
        new.write_bytes(signed.private_key_and_cert_chain_pem.bytes())
        new.replace(path)
        return path

    def context(self, certificate: Path) -> ssl.SSLContext:
        """For a server with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        return context

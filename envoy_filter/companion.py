"""The sidecar inside another process, such as the agent's: one process a node holds for all its pods."""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from squash import serve
from squash.logs import Log
from squash.options import Address, settle
from squash.settings import SidecarSettings

from .protocol import NeverRefusing
from .sidecar import parts

_log = Log("sidecar")


@contextlib.asynccontextmanager
async def sidecar(given: Mapping[str, str]) -> AsyncIterator[None]:
    """Holds marked requests while it lasts. Raises SettingError."""
    named = os.environ.get("SQUASH_CONFIG")
    settings = settle(SidecarSettings, "sidecar", given, Path(named) if named else None)
    async with parts(settings) as made:
        app, stop, sock, also = made
        async with serve.serving(app, sock, stop, protocol=NeverRefusing, also=also):
            where = Address(*sock.getsockname()[:2])
            _log.info("sidecar ready", listen=str(where), socket=settings.listen_socket)
            yield

"""The program `squash-coordinator`: its parts wired together."""

import contextlib
import gc
import secrets
import socket
from collections.abc import Sequence
from functools import partial

import uvloop

from coordinator import platforms
from coordinator.api import application
from coordinator.board import Board, Policy
from coordinator.metrics import Metrics
from coordinator.presence import Presence
from coordinator.records import Records
from coordinator.service import Service
from coordinator.sightings import Sightings
from coordinator.stores import Store
from coordinator.stores.memory import MemoryStore
from coordinator.stores.sqlite import SqliteStore
from coordinator.tickets import Tickets
from coordinator.waiting import Waiting
from squash import logs, serve
from squash.errors import SettingError
from squash.logs import Log
from squash.options import die, load_or_exit
from squash.settings import CoordinatorSettings
from squash.tasks import spawn
from squash.tunnel import LONGEST

PROGRAM = "coordinator"
_DESCRIPTION = "Matches marked requests with the developers who wait for them, and tells the agents."
_log = Log(PROGRAM)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs until SIGTERM or SIGINT (status 0); a setting that cannot be used ends it with status 2."""
    settings = load_or_exit(CoordinatorSettings, PROGRAM, _DESCRIPTION, argv)
    logs.setup(settings.log_level, settings.log_format)
    serve.allow_many_files()
    try:
        with (
            contextlib.closing(serve.bind(settings.listen, "--listen")) as sock,
            contextlib.closing(open_store(settings)) as store,
        ):
            uvloop.run(_run(settings, sock, store))
    except SettingError as error:
        die(PROGRAM, error, 2)


def open_store(settings: CoordinatorSettings) -> Store:
    """Raises SettingError when it cannot be used."""
    if settings.store == "memory":
        return MemoryStore()
    return SqliteStore(settings.database)


async def _run(settings: CoordinatorSettings, sock: socket.socket, store: Store) -> None:
    board = Board(Policy(settings.request_ttl, settings.retention), partial(secrets.token_hex, 16))
    waiting = Waiting()
    sightings = Sightings(settings.sightings)
    presence = Presence(settings.agent_lease, settings.holder_lease)
    metrics, tickets = Metrics(board, waiting), Tickets(settings)
    service = Service(board, store, platforms.load(settings), waiting, metrics, sightings, presence, tickets)
    service.start()
    records = Records(store, sightings, settings)
    # What was loaded stays: the collector need not walk over it again and again.
    gc.freeze()
    app = application(service, records, settings)
    trimming = spawn(records.keep_trimmed(), "retention of the audit trail")
    try:
        await serve.run(app, sock, f"squash-{PROGRAM}", service.stop, longest_message=LONGEST)
    finally:
        trimming.cancel()
    _log.info("stopped")

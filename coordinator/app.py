"""The program `squash-coordinator`: its parts wired together."""

import contextlib
import gc
import secrets
import socket
from collections.abc import Sequence
from functools import partial

import uvloop

from coordinator import first, platforms
from coordinator.access import Access
from coordinator.api import application
from coordinator.board import Board, Policy
from coordinator.limits import Limits, Usage
from coordinator.metrics import Metrics
from coordinator.presence import Presence
from coordinator.records import Records
from coordinator.service import Service
from coordinator.sightings import Sightings
from coordinator.stores import Store
from coordinator.stores.memory import MemoryStore
from coordinator.stores.sqlite import SqliteStore
from coordinator.tickets import Tickets
from coordinator.tls import ShowingCertificates, Tls
from coordinator.waiting import Waiting
from squash import logs, serve
from squash.errors import SettingError
from squash.logs import Log
from squash.options import die, load_or_exit
from squash.settings import CoordinatorSettings
from squash.tasks import spawn
from squash.tunnel import ALIVE, LONGEST

PROGRAM = "coordinator"
_DESCRIPTION = "Matches marked requests with the developers who wait for them, and tells the agents."
_log = Log(PROGRAM)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs until SIGTERM or SIGINT (status 0); a setting that cannot be used ends it with status 2."""
    settings = load_or_exit(CoordinatorSettings, PROGRAM, _DESCRIPTION, argv)
    logs.setup(settings.log_level, settings.log_format)
    serve.allow_many_files()
    try:
        check_exposure(settings)
        tls = Tls(settings) if settings.tls_certificate or settings.tls_key or settings.tls_client_ca else None
        with (
            contextlib.closing(serve.bind(settings.listen, "--listen")) as sock,
            contextlib.closing(open_store(settings)) as store,
        ):
            uvloop.run(_run(settings, sock, store, tls))
    except SettingError as error:
        die(PROGRAM, error, 2)


def open_store(settings: CoordinatorSettings) -> Store:
    """Raises SettingError when it cannot be used."""
    if settings.store == "memory":
        return MemoryStore()
    return SqliteStore(settings.database)


def check_exposure(settings: CoordinatorSettings) -> None:
    """Raises SettingError when anybody could call from anywhere, and nobody said that this is meant."""
    if settings.tls_client_ca and settings.auth == "none":
        raise SettingError("tls_client_ca is of no use with auth = none: nobody is asked who they are (--auth token)")
    if settings.listen.is_loopback:
        return
    if settings.auth == "none" and not settings.insecure:
        raise SettingError(
            f"listen = '{settings.listen}' would let whoever reaches this machine debug what runs here: "
            "ask callers who they are (--auth token), listen on 127.0.0.1, or say --insecure"
        )
    if settings.auth == "none":
        _log.warning("anybody who reaches this address may do everything", listen=settings.listen)
    elif not settings.tls_certificate:
        _log.warning("tokens come over plain HTTP: whoever is on the way can read them", listen=settings.listen)


async def _run(settings: CoordinatorSettings, sock: socket.socket, store: Store, tls: Tls | None) -> None:
    board = Board(Policy(settings.request_ttl, settings.retention), partial(secrets.token_hex, 16))
    waiting = Waiting()
    sightings, usage = Sightings(settings.sightings), Usage(Limits.of(settings))
    presence = Presence(settings.agent_lease, settings.holder_lease)
    metrics, tickets = Metrics(board, waiting), Tickets(settings)
    service = Service(board, store, platforms.load(settings), waiting, metrics, sightings, presence, tickets, usage)
    service.start()
    required = settings.auth == "token"
    local = settings.listen.host if settings.listen.is_loopback and not required else None
    access = Access(store, required=required, local=local)
    service.when_gone = access.tokens.drop_passing
    access.start()
    if access.required:
        first.admin_token(access, settings.admin_token_file or settings.database.with_suffix(".admin-token"))
    records = Records(board, store, sightings, access, settings)
    # What was loaded stays: the collector need not walk over it again and again.
    gc.freeze()
    app = application(service, access, records, settings)
    trimming = spawn(records.keep_trimmed(), "retention of the audit trail")
    try:
        await serve.run(
            app,
            sock,
            f"squash-{PROGRAM}",
            service.stop,
            protocol=ShowingCertificates if tls else "auto",
            longest_message=LONGEST,
            alive=ALIVE,
            tls=tls.context if tls else None,
        )
    finally:
        trimming.cancel()
    _log.info("stopped")

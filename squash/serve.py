"""Running an ASGI application: a port that explains itself when it is busy, a line when ready, a graceful stop."""

import asyncio
import contextlib
import errno
import resource
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import uvicorn

from squash import procfs
from squash.errors import SettingError
from squash.options import Address
from squash.tasks import spawn

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than our clients keep theirs (httpx: 5), which then close first."""
MANY_FILES = 65_536
LAST_ANSWERS = 10
"""Seconds that a stop waits for answers under way, such as to a client that sends its body slowly."""


def bind(address: Address, flag: str) -> socket.socket:
    """A listening socket. Raises SettingError that names the port, who holds it, and `flag` to change it."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        return socket.create_server(address, family=family, backlog=2048)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise SettingError(f"cannot listen on {address} ({flag}): {error.strerror or error}") from error
        holder = procfs.listener_of(address.port)
        who = f"process {holder.pid} ({holder.comm})" if holder else "another process"
        raise SettingError(
            f"port {address.port} of {address.host} is held by {who}: end it, or choose another port with {flag}"
        ) from error


def allow_many_files() -> None:
    """Raises this process's limit of open files as far as it may: a stream of the tunnel takes several of them.

    The usual limit of 1024 is for programs that use select(2); ours do not.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if most == resource.RLIM_INFINITY else min(most, MANY_FILES)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


@contextlib.contextmanager
def listening_at(path: Path, flag: str) -> Iterator[socket.socket]:
    """A unix socket that every user may connect to; gone at the end. Raises SettingError.

    What an earlier life has left there is replaced; a socket that somebody answers at is not.
    """
    sock = socket.socket(socket.AF_UNIX)
    with contextlib.closing(sock):
        try:
            _clear(path)
            sock.bind(str(path))
            path.chmod(0o666)
            sock.listen(2048)
        except OSError as error:
            raise SettingError(f"cannot listen on {str(path)!r} ({flag}): {error.strerror or error}") from error
        try:
            yield sock
        finally:
            path.unlink(missing_ok=True)


def _clear(path: Path) -> None:
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "another process listens there")


Protocol = type[asyncio.Protocol] | Literal["auto"]


class _Server(uvicorn.Server):
    also: Sequence[socket.socket] = ()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for sock in self.also:
            server = await asyncio.get_running_loop().create_unix_server(self._protocol, sock=sock, backlog=2048)
            self.servers.append(server)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        made: asyncio.Protocol = make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return made

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # `run` handles signals, so that a clean stop ends with status 0


async def run(
    app: Any,
    sock: socket.socket,
    program: str,
    on_stop: Callable[[], None],
    *,
    protocol: Protocol = "auto",
    longest_message: int = 0,
    also: Sequence[socket.socket] = (),
    alive: float | None = None,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT; then calls `on_stop` (which must let pending answers end) and finishes them.

    `longest_message` is that of a WebSocket in bytes; 0: there are no WebSockets. `alive`: seconds between their pings,
    and for the answers. `also` are unix sockets to serve.

    Writes one line `PROGRAM ready on URL` to stdout once connections are accepted.
    """
    server = _server(app, protocol, longest_message, also, tls, alive)

    def stop() -> None:
        on_stop()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    host, port = sock.getsockname()[:2]
    announce(program, f"{'https' if tls else 'http'}://{Address(host, port)}")
    await server.serve(sockets=[sock])


@contextlib.asynccontextmanager
async def serving(
    app: Any,
    sock: socket.socket,
    on_stop: Callable[[], None],
    *,
    protocol: Protocol = "auto",
    also: Sequence[socket.socket] = (),
) -> AsyncIterator[None]:
    """The same while it lasts, for a process that has other things to do; signals are the caller's."""
    server = _server(app, protocol, 0, also, None)
    task = spawn(server.serve(sockets=[sock]), "server")
    try:
        yield
    finally:
        on_stop()
        server.should_exit = True
        await asyncio.wait([task])


def _server(
    app: Any,
    protocol: Protocol,
    longest_message: int,
    also: Sequence[socket.socket],
    tls: ssl.SSLContext | None,
    alive: float | None = None,
) -> _Server:
    config = uvicorn.Config(
        app,
        http=protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        # Whoever connects is who asks, whatever their headers say.
        proxy_headers=False,
        ws="websockets-sansio" if longest_message else "none",
        ws_max_size=longest_message,
        ws_per_message_deflate=False,
        ws_ping_interval=alive,
        ws_ping_timeout=alive,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=LAST_ANSWERS,
        ssl_context_factory=(lambda _config, _default: tls) if tls else None,
    )
    server = _Server(config)
    server.also = also
    return server


def announce(program: str, where: str) -> None:
    """Tells whoever started this program that it is ready, and where."""
    sys.stdout.write(f"{program} ready on {where}\n")
    sys.stdout.flush()

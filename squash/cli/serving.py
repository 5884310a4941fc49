"""What `squashctl connect` does while it stays: serves clients, and ends when the attachment is over."""

import asyncio
import signal
import socket
import sys
from collections.abc import Coroutine
from typing import Any

import uvloop

from squash.cli.editors import first
from squash.cli.follow import POLL, Goal, reached
from squash.cli.front import Front
from squash.cli.local_end import LocalEnd
from squash.cli.target import place
from squash.client import AsyncClient, Client, changes
from squash.errors import ApiError, SquashError, UnreachableError
from squash.model import DebugAttachment
from squash.options import Address
from squash.reasons import Reason
from squash.serve import bind
from squash.tasks import spawn
from squash.tunnel import Guest

_PAUSE = 0.5
"""Seconds between tries to reach a coordinator that was there before."""


def serve_stdio(squash: Front, attachment: DebugAttachment, guest: Guest) -> None:
    """Serves standard input and output until one end closes. Raises SquashError."""
    # Ctrl-C is meant for the debugger at the other end of the pipe, which shares our terminal.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _run(_stdio(squash, attachment, guest))


def serve_port(squash: Front, attachment: DebugAttachment, address: Address, guest: Guest, *, only_one: bool) -> None:
    """Says where it listens, and serves clients until the attachment is over; `only_one`: until the first has left.

    Raises SquashError when no client could be served to its end.
    """
    with bind(address, "--listen") as sock:
        _run(_port(squash, attachment, sock, guest, only_one=only_one))


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Runs it; SIGTERM ends it as Ctrl-C does, with the status of one that was terminated."""
    terminated = False

    async def main() -> None:
        task = asyncio.current_task()
        assert task  # noqa: S101 - for the type checker

        def stop() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
        await work

    try:
        uvloop.run(main())
    except asyncio.CancelledError:
        raise SystemExit(128 + signal.SIGTERM) from None


async def _stdio(squash: Front, attachment: DebugAttachment, guest: Guest) -> None:
    client = squash.client
    await LocalEnd(client.url, attachment.name, lambda _: None, guest, client.credentials).stdio()


async def _port(
    squash: Front, attachment: DebugAttachment, sock: socket.socket, guest: Guest, *, only_one: bool
) -> None:
    client = squash.client
    end = LocalEnd(client.url, attachment.name, squash.output.note, guest, client.credentials)
    _announce(squash, attachment, Address(*sock.getsockname()[:2]))
    serving = spawn(end.listen(sock, only_one=only_one), "local end")
    watching = spawn(over(client, attachment.name), "end of the attachment")
    try:
        await asyncio.wait({serving, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (serving, watching):
            if not task.done():
                task.cancel()
        await asyncio.wait({serving, watching})
    failure = watching.result() if serving.cancelled() else serving.result()
    if failure and (only_one or not end.served):
        raise failure
    if failure:
        squash.output.note(f"over: {failure.message}")


async def over(known: Client, name: str) -> SquashError:
    """Why the attachment is over, as soon as it is. A coordinator that is away is waited for."""
    since = ""
    async with AsyncClient(known.url, credentials=known.credentials) as client:
        while True:
            try:
                news = await client.send(changes(since=since, names=[name], wait=POLL))
            except (ApiError, UnreachableError) as error:
                if error.reason is not Reason.WAIT_TIMEOUT:
                    await asyncio.sleep(_PAUSE)
                continue
            since = news.revision
            own = [attachment for attachment in news.attachments if attachment.name == name]
            if not own and (news.reset or name in news.deleted):
                return SquashError(Reason.DELETED, f"debug attachment {name} was deleted")
            try:
                for attachment in own:
                    reached(attachment, Goal.LISTENING)
            except SquashError as error:
                return error


def _announce(squash: Front, attachment: DebugAttachment, address: Address) -> None:
    """Tells where to connect, and what to paste: at once, for this command stays."""
    paste = first(place(attachment, address, squash.client.url, program="", mappings=()))
    status = attachment.status
    if squash.output.as_json:
        where = {"host": address.host, "port": address.port}
        known = {"attachment": attachment.name, "listen": where, "protocol": status.protocol}
        squash.output.document(known | {"debugger": status.debugger, "paste": paste})
    else:
        squash.output.lines(f"{'listening on':<17} {address} ({status.protocol})", f"{'paste':<17} {paste}")
    sys.stdout.flush()

"""The WebSockets of the tunnel: clients ask for a debug server, agents come to meet them, bytes pass between."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from coordinator import query, rights
from coordinator.access import Access, caller
from coordinator.http import refusal
from coordinator.operation import Operation
from coordinator.service import Service
from coordinator.switchboard import Line, Switchboard
from squash.errors import ApiError
from squash.logs import Log
from squash.model import DebugAttachment, Phase, State
from squash.reasons import Reason
from squash.tasks import spawn
from squash.tunnel import BROKEN, DONE, MISUSED, Call, Guest, read_declined

MEET = 10.0
"""Seconds for an agent to come and meet a client: it dials the debugger's socket and us, both in milliseconds."""
_EVER = 31_536_000.0
"""Seconds: longer than any stream."""
_encode = msgspec.json.Encoder().encode
_log = Log("tunnel")
Endpoint = Callable[[WebSocket], Awaitable[None]]


class Meeting:
    """An agent's WebSocket for one stream, held open until `over`."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self.over = asyncio.Event()


class Tunnel:
    """The WebSockets of the API; their names are those of its operations. Raises ApiError for every refusal."""

    def __init__(self, service: Service, switchboard: Switchboard[Meeting]) -> None:
        self._board = service.board
        self._presence = service.presence
        self._switchboard = switchboard
        self._usage = service.usage
        self._waiting = service.waiting

    async def open_tunnel(self, client: WebSocket) -> None:
        """A client wants a stream; its WebSocket is accepted when the whole way is open."""
        name = client.path_params["id"]
        principal = caller(client.scope)
        attachment = self._board.attachment(name)
        agent = serving(attachment)
        guest = rights.guest(principal, attachment, query.guest(client))
        if not (principal.known and principal.all_powerful):
            check_takeover(attachment, guest)
        with self._usage.stream(attachment.spec, guest.client):
            await client.receive()
            meeting = await meet(client, self._called(agent, attachment, guest))
            if meeting is None:
                return
            log = _log.bind(attachment=name, agent=agent)
            try:
                self._switchboard.streams += 1
                try:
                    log.info("stream opened", client=guest.client or None, streams=self._switchboard.streams)
                    ended = await _join(client, meeting.socket, self._given_up(name))
                finally:
                    self._switchboard.streams -= 1
                log.info("stream closed", how=ended, streams=self._switchboard.streams)
            finally:
                meeting.over.set()

    async def _called(self, agent: str, attachment: DebugAttachment, guest: Guest) -> Meeting | ApiError:
        try:
            return await self._switchboard.call(agent, attachment.name, MEET, guest, attachment.spec.node)
        except ApiError as error:
            return error

    async def _given_up(self, name: str) -> str:
        """Returns why no stream can go on: an agent that is out of reach may not be able to end it itself."""

        def look(_: int) -> bool | None:
            found = self._board.attachments.get(name)
            return True if found is None or found.status.reason is Reason.AGENT_LOST else None

        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        found = await self._waiting.wait([("attachment", name)], look, _EVER, never)
        return "agent gone" if found else "coordinator stops"

    async def open_line(self, socket: WebSocket) -> None:
        """An agent listens for calls here as long as it lives."""
        agent = socket.path_params["id"]
        principal = caller(socket.scope)
        if principal.node is not None:
            for node in self._nodes_of(agent):
                rights.check_node(principal, node, f"agent {agent[:64]!r}")
        await socket.accept()
        line = self._switchboard.open_line(agent, principal.node)
        _log.info("agent connected", agent=agent)
        telling = spawn(_tell(line, socket), "calls to an agent")
        try:
            while True:
                self._switchboard.decline(line, read_declined(await socket.receive_text()))
        except (msgspec.DecodeError, KeyError) as error:
            await _close(socket, MISUSED, f"not a word of the line: {error}"[:100])
        except WebSocketDisconnect:
            return
        finally:
            telling.cancel()
            self._switchboard.close_line(line)
            _log.info("agent disconnected", agent=agent)

    def _nodes_of(self, agent: str) -> set[str | None]:
        """Where this agent is known to be: by its open line, by its lease, and by what it has claimed."""
        claimed = (each.spec.node for each in self._board.attachments.values() if each.status.agent == agent)
        return {self._switchboard.node_of(agent), self._presence.node_of(agent), *claimed}

    async def open_stream(self, socket: WebSocket) -> None:
        """An agent comes to meet a client."""
        node = self._switchboard.node_of_stream(socket.path_params["id"])
        rights.check_node(caller(socket.scope), node, "this stream")
        meeting = Meeting(socket)
        await socket.accept()
        if not self._switchboard.connect(socket.path_params["id"], meeting):
            await _close(socket, BROKEN, "nobody waits for this stream")
            return
        await meeting.over.wait()
        await _close(socket, BROKEN, "client gone")


async def meet(client: WebSocket, call: Coroutine[Any, Any, Meeting | ApiError]) -> Meeting | None:
    """The agent's end, as the call brings it; None when the client hung up first. Raises ApiError when it is refused.

    An agent that comes when nobody wants it any more is sent back, since it would wait for ever.
    """
    hung_up = spawn(client.receive(), "client of a tunnel")
    calling = spawn(call, "call of an agent")
    try:
        # Also for a client that is gone: the agent may be on its way.
        answer = await asyncio.shield(calling)
        gone = hung_up.done()
        hung_up.cancel()
        await asyncio.wait({hung_up})
    except asyncio.CancelledError:
        hung_up.cancel()
        calling.add_done_callback(_send_back)
        raise
    if isinstance(answer, ApiError):
        raise answer
    if not gone:
        return answer
    answer.over.set()
    return None


def _send_back(calling: asyncio.Task[Meeting | ApiError]) -> None:
    if not calling.cancelled() and isinstance(meeting := calling.result(), Meeting):
        meeting.over.set()


def serving(attachment: DebugAttachment) -> str:
    """The agent that has the attachment's debug server. Raises ApiError 409 when there is none to connect to."""
    status = attachment.status
    over = status.state is State.ERROR or (status.phase is not None and status.phase.rank >= Phase.RELEASED.rank)
    if over or not status.debug_server_address or not status.agent:
        stands = f"is {status.state} (phase {status.phase})"
        raise ApiError(409, Reason.NOT_LISTENING, f"debug attachment {attachment.name} {stands}")
    return status.agent


def check_takeover(attachment: DebugAttachment, guest: Guest) -> None:
    """Raises ApiError 403 when the guest wants to take over a session on an attachment of somebody else."""
    owner = attachment.spec.owner
    if guest.takeover and owner and guest.client != owner:
        raise ApiError(403, Reason.TAKEOVER_DENIED, f"debug attachment {attachment.name} is {owner}'s")


async def _tell(line: Line, socket: WebSocket) -> None:
    while True:
        call: Call = await line.calls.get()
        try:
            await socket.send_bytes(_encode(call))
        except WebSocketDisconnect:
            return  # `line` sees it too


async def _join(client: WebSocket, agent: WebSocket, given_up: Coroutine[Any, Any, str]) -> str:
    """Passes messages both ways until one end closes, and closes the other likewise. Returns how it ended.

    When `given_up` returns first, both are closed.
    """
    lost = spawn(given_up, "end of an attachment")
    try:
        return await _joined(client, agent, lost)
    finally:
        lost.cancel()


async def _joined(client: WebSocket, agent: WebSocket, lost: asyncio.Task[str]) -> str:
    try:
        await client.accept()
    except OSError:
        await _close(agent, BROKEN, "client gone")
        return "client gone"
    up = spawn(_pass_on(client, agent, "client"), "client to agent")
    down = spawn(_pass_on(agent, client, "agent"), "agent to client")
    try:
        await asyncio.wait({up, down, lost}, return_when=asyncio.FIRST_COMPLETED)
        code, how = (BROKEN, lost.result()) if lost.done() else (up if up.done() else down).result()
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.wait({up, down})
    await asyncio.gather(_close(client, code, how), _close(agent, code, how))
    return how


async def _pass_on(source: WebSocket, sink: WebSocket, name: str) -> tuple[int, str]:
    """Returns the code and reason with which the other end is to be closed.

    A sink that is slow keeps us from reading on: there is never more than one message in hand.
    """
    while True:
        message = await source.receive()
        if message["type"] == "websocket.disconnect":
            if message["code"] == DONE:
                return DONE, "done"
            return BROKEN, message.get("reason") or f"{name} gone"
        try:
            await sink.send({**message, "type": "websocket.send"})
        except (WebSocketDisconnect, RuntimeError):
            return BROKEN, f"{'agent' if name == 'client' else 'client'} gone"


async def _close(socket: WebSocket, code: int, reason: str) -> None:
    """Closes unless it is closed already."""
    if WebSocketState.DISCONNECTED in (socket.client_state, socket.application_state):
        return
    try:
        await socket.close(code, reason[:100])
    except (WebSocketDisconnect, RuntimeError):
        return  # it went by itself meanwhile


async def upgrade_needed(request: Request) -> Response:
    """The answer to a plain HTTP call of a WebSocket's path."""
    headers = {"upgrade": "websocket", "connection": "upgrade"}
    return refusal(ApiError(426, Reason.UPGRADE_NEEDED), headers)


def guarded(endpoint: Endpoint, operation: Operation, access: Access) -> Endpoint:
    """Answers refusals as the API does, and refuses web pages: browsers let them reach every server on this machine.

    What is open ends when the token that opened it is revoked.
    """

    async def guard(socket: WebSocket) -> None:
        try:
            if origin := socket.headers.get("origin"):
                raise ApiError(403, Reason.FROM_A_PAGE, f"a page of {origin[:100]} asks for a WebSocket")
            principal = access.authenticate(socket.scope)
            if operation.tunnel:
                rights.check_tunnel(principal, socket.path_params["id"])
            else:
                rights.check_role(principal, operation.roles or frozenset(), f"the WebSocket {operation.path}")
            if principal.token is None:
                await endpoint(socket)
            else:
                with access.in_use(principal) as revoked:
                    await _until(revoked, socket, endpoint)
        except ApiError as error:
            await socket.send_denial_response(refusal(error))

    return guard


async def _until(revoked: asyncio.Event, socket: WebSocket, endpoint: Endpoint) -> None:
    work = spawn(_ended(endpoint, socket), "WebSocket of a token")
    ending = spawn(revoked.wait(), "revocation")
    try:
        await asyncio.wait({work, ending}, return_when=asyncio.FIRST_COMPLETED)
        if work.done() and (refused := work.result()):
            raise refused
    finally:
        for task in (work, ending):
            task.cancel()
        await asyncio.wait({work, ending})
    if revoked.is_set():
        await _close(socket, BROKEN, "the token was revoked")


async def _ended(endpoint: Endpoint, socket: WebSocket) -> ApiError | None:
    """How the endpoint refused, if it did: a refusal is no fault of the task."""
    try:
        await endpoint(socket)
    except ApiError as error:
        return error
    return None

"""Dialing a WebSocket of the coordinator; what it refuses becomes an ApiError, as in squash.client."""

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from squash import __version__, server_url
from squash.access import IssuedToken
from squash.calls import tunnel_token
from squash.client import AsyncClient
from squash.credentials import Credentials, anonymous
from squash.errors import ApiError, UnreachableError
from squash.model import Refusal
from squash.reasons import Reason
from squash.secret import Secret
from squash.tunnel import ALIVE, LONGEST, NOBODY, Guest, client_path

OPEN = 15.0
"""Seconds for the answer to the handshake: the coordinator may wait for an agent meanwhile."""
CLOSE = 2.0
"""Seconds for a peer to answer the close of a connection that is over."""


async def dial(
    url: str, path: str, credentials: Credentials | None = None, token: Secret | None = None
) -> ClientConnection:
    """A connection to `path` of the coordinator at `url` (http or https). Raises ApiError, UnreachableError.

    A `token` for this connection alone goes instead of that of the credentials.
    """
    server_url.split(url)
    credentials = credentials or anonymous(url)
    bearer = {"authorization": f"Bearer {token.reveal()}"} if token else credentials.headers()
    where = "ws" + url.rstrip("/").removeprefix("http") + path
    try:
        return await connect(
            where,
            ssl=credentials.context(),
            additional_headers=bearer,
            compression=None,
            proxy=None,
            user_agent_header=f"squash/{__version__}",
            open_timeout=OPEN,
            ping_interval=ALIVE,
            ping_timeout=ALIVE,
            close_timeout=CLOSE,
            max_size=LONGEST,
        )
    except InvalidStatus as error:
        raise _refused(url, path, error) from error
    except (OSError, TimeoutError, WebSocketException, ValueError) as error:
        raise UnreachableError(f"{url}: {error or 'did not answer in time'}") from error


async def dial_tunnel(
    url: str, attachment: str, guest: Guest = NOBODY, credentials: Credentials | None = None
) -> ClientConnection:
    """A stream to the attachment's debug server. Raises ApiError, UnreachableError.

    Where the coordinator is told who calls, it first gives a token that opens this one tunnel and nothing else.
    """
    token = None
    if credentials and credentials.shown:
        async with AsyncClient(url, credentials=credentials) as client:
            issued: IssuedToken = await client.send(tunnel_token(attachment, read_only=guest.read_only))
        token = Secret(issued.secret)
    return await dial(url, client_path(attachment, guest), credentials, token)


def _refused(url: str, path: str, error: InvalidStatus) -> ApiError:
    answer = error.response
    try:
        refusal = msgspec.json.decode(answer.body or b"", type=Refusal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        message = f"{url}{path} answered {answer.status_code} where a WebSocket was asked for"
        return ApiError(answer.status_code, Reason.COORDINATOR_REFUSED, message)
    return ApiError(answer.status_code, refusal.reason, refusal.message)

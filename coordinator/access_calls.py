"""The calls about access, in a table like that of all others (openapi.py): tunnels, tokens, and what agents open."""

from coordinator.operation import (
    AGENT,
    ATTACHMENTS,
    FLAG,
    ID,
    KEPT,
    LOOKING,
    MALFORMED,
    TEXT,
    UNKNOWN,
    Operation,
    Parameter,
)
from squash.access import IssuedToken, Token, TokenWish, TunnelWish
from squash.calls import BASE
from squash.reasons import Reason

AGENT_ID = Parameter("id", "path", TEXT, "The agent's own name, that of `status.agent`")
STREAM_ID = Parameter("id", "path", TEXT, "The stream, as the call on the line names it")
TOKEN_ID = Parameter("id", "path", TEXT, "The token's id")

ABOUT_ACCESS = (
    Operation(
        "create_tunnel_token",
        "POST",
        f"{ATTACHMENTS}/{{id}}/token",
        "Makes a token that opens tunnels to this attachment's debug server for a minute, and does nothing else; "
        "for others than its owner one that lets them look only",
        201,
        IssuedToken,
        parameters=(ID,),
        body=TunnelWish,
        refusals=MALFORMED | UNKNOWN | {400: (Reason.MALFORMED,), 429: (Reason.LIMIT_REACHED,)},
        roles=LOOKING,
    ),
    Operation(
        "open_tunnel",
        "GET",
        f"{ATTACHMENTS}/{{id}}/tunnel",
        "A stream to the attachment's debug server; needs a token for this attachment alone",
        101,
        parameters=(
            ID,
            Parameter("client", "query", TEXT, "Who connects; with a token its subject counts"),
            Parameter("takeover", "query", FLAG, "The client that holds the session, if there is one, makes room"),
            Parameter("read_only", "query", FLAG, "Look, but change nothing"),
        ),
        refusals=UNKNOWN
        | {
            403: (Reason.TUNNEL_TOKEN, Reason.NOT_YOURS, Reason.TAKEOVER_DENIED, Reason.FROM_A_PAGE),
            409: (Reason.NOT_LISTENING,),
            422: (Reason.INVALID,),
            429: (Reason.LIMIT_REACHED,),
            503: (Reason.AGENT_AWAY,),
            504: (Reason.AGENT_AWAY,),
        },
        roles=LOOKING,
        websocket=True,
        tunnel=True,
    ),
    Operation(
        "open_line",
        "GET",
        f"{BASE}/agent/{{id}}/line",
        "An agent's line, on which it is called for streams",
        101,
        parameters=(AGENT_ID,),
        refusals={403: (Reason.NOT_YOURS, Reason.FROM_A_PAGE)},
        roles=AGENT,
        websocket=True,
    ),
    Operation(
        "open_stream",
        "GET",
        f"{BASE}/stream/{{id}}",
        "The agent's end of a stream that it was called for",
        101,
        parameters=(STREAM_ID,),
        refusals={403: (Reason.NOT_YOURS, Reason.FROM_A_PAGE)},
        roles=AGENT,
        websocket=True,
    ),
    Operation(
        "create_token",
        "POST",
        f"{BASE}/token",
        "Makes a token; this answer alone has its secret",
        201,
        IssuedToken,
        body=TokenWish,
        refusals=MALFORMED | KEPT | {400: (Reason.MALFORMED,), 409: (Reason.NO_AUTHENTICATION,)},
    ),
    Operation("list_tokens", "GET", f"{BASE}/token", "Lists tokens, without their secrets", answer=list[Token]),
    Operation(
        "revoke_token",
        "DELETE",
        f"{BASE}/token/{{id}}",
        "Takes a token back at once; what was opened with it ends",
        answer=Token,
        parameters=(TOKEN_ID,),
        refusals=UNKNOWN | KEPT,
    ),
)

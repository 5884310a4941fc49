"""Sessions of the Debug Adapter Protocol in pieces: what all tests of its interpreter say and look at."""

from typing import Any

from hypothesis import settings

from agent.protocols.dap import Dap
from agent.protocols.interpreter import Flow
from agent.terms import ORDINARY, Terms
from tests.agent.protocols.speech import messages, request, response

LOOKING = Terms(read_only=True)
ENDING = Terms(allow_terminate=True)
SET = request(3, "setBreakpoints", source={"path": "/app/pricing.py"}, breakpoints=[{"line": 7}, {"line": 900}])
SET_DONE = response(4, 3, "setBreakpoints", breakpoints=[{"verified": True}, {"verified": False, "message": "no line"}])
DONE = request(5, "configurationDone")
DONE_DONE = response(6, 5, "configurationDone")
unhurried = settings(deadline=None)
"""On a busy machine any example may take its time."""


def ready(session: Dap) -> bool:
    return session.ready


def to_server(flow: Flow) -> list[dict[str, Any]]:
    return messages(b"".join(flow.server))


def to_client(flow: Flow) -> list[dict[str, Any]]:
    return messages(b"".join(flow.client))


def begun(terms: Terms = ORDINARY) -> Dap:
    """A session whose gate is open; the last number is 6."""
    session = Dap(terms)
    session.from_client(DONE)
    session.from_server(DONE_DONE)
    assert ready(session)
    return session
